/**
 * @file A run with a hostile worker: the real coordinator as a process, eight real workers (session, compute thread's code, ONNX
 * engine, WebSocket) in this one, of which the first may change what it sends.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { encode } from "../../shared/codec/codec.ts";
import { createCompute } from "../../shared/worker/compute.ts";
import { runSession } from "../../shared/worker/run.ts";
import type { RunningSession } from "../../shared/worker/run.ts";
import { createNodeEngine } from "../../worker-node/engine.ts";
import { fetchBytes } from "../../worker-node/fetch.ts";
import { connectSocket } from "../../worker-node/socket.ts";
import { smallCorpus, startCoordinator } from "./coordinatorProcess.ts";

export type AttackOptions = {
  /** What the hostile worker multiplies its gradients by; 1 for an honest one. */
  readonly factor: number;
  readonly guard: "refuse" | "clip" | "off";
  readonly steps: number;
  readonly workers?: number;
};

export type AttackedRun = {
  /** Mean validation loss at the end, nats a token. */
  readonly loss: number;
  readonly hash: string;
  /** How often each code is in the ledger's events. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Largest norm of a contribution that went into a round, in units of that round's median. */
  readonly largestNorm: number;
};

export async function trainUnderAttack({ factor, guard, steps, workers = 8 }: AttackOptions): Promise<AttackedRun> {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-attack-"));
  const coordinator = await startCoordinator([
    ...["--run", "attacked", "--text", smallCorpus(dir), "--tokenizer", "char", "--codec", "f32", "--strict"],
    ...["--layers", "1", "--heads", "2", "--width", "32", "--context", "16", "--batch", "32", "--unit", "2"],
    ...["--steps", String(steps), "--evaluate-every", "0", "--final-evaluation-samples", "512", "--guard", guard],
    ...["--workers", "0", "--port", "0", "--runs-dir", join(dir, "runs"), "--data-dir", join(dir, "data")],
  ]);
  const sessions: RunningSession[] = [];
  try {
    for (let index = 0; index < workers; index++) {
      sessions.push(startWorker(coordinator.url, `worker ${index}`, index === 0 ? factor : 1));
    }
    const code = await coordinator.exit;
    if (code !== 0) throw new Error(`the coordinator ended with ${code}:\n${coordinator.output()}`);
    return readLedger(join(dir, "runs/attacked/ledger.sqlite"));
  } finally {
    for (const session of sessions) session.stop("the test is over");
    coordinator.child.kill();
    await coordinator.exit;
    rmSync(dir, { recursive: true, force: true });
  }
}

function startWorker(url: string, name: string, factor: number): RunningSession {
  const compute = createCompute({
    createEngine: ({ model }, layout) => createNodeEngine({ spec: model, layout, threads: 1, preference: "onnx" }),
    fetchBytes,
    emit: (event) => {
      if (event.type === "contribution" && factor !== 1) {
        const { payload } = event;
        const gradient = new Float32Array(payload.buffer, payload.byteOffset, payload.length / 4);
        encode("f32", gradient.map((value) => factor * value), payload); // prettier-ignore
      }
      session.computed(event);
    },
    nowMs: () => performance.now(),
    pause: (ms) => new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve))),
  });
  const session = runSession(
    { kind: "node", name, token: null, url, seed: name.length },
    {
      connect: (handlers) => connectSocket(`${url.replace("http", "ws")}/socket`, 2 ** 24, undefined, handlers),
      compute: compute.command,
      nowMs: () => performance.now(),
      every: (ms, callback) => {
        const timer = setInterval(callback, ms);
        return () => clearInterval(timer);
      },
      remember: () => {},
      onChange: () => {},
    },
    null,
  );
  return session;
}

function readLedger(file: string): AttackedRun {
  const database = new DatabaseSync(file, { readOnly: true });
  const evaluation = database.prepare("SELECT * FROM evaluation ORDER BY version DESC LIMIT 1").get() as { lossSum: number; tokens: number }; // prettier-ignore
  const { hash } = database.prepare("SELECT hash FROM round ORDER BY version DESC LIMIT 1").get() as { hash: string };
  const norms = database.prepare("SELECT version, norm FROM contribution").all() as { version: number; norm: number }[];
  const codes = database.prepare("SELECT code, COUNT(*) AS count FROM event GROUP BY code").all() as { code: string; count: number }[]; // prettier-ignore
  database.close();
  const largest = [...Map.groupBy(norms, ({ version }) => version).values()].map((round) => {
    const sorted = round.map(({ norm }) => norm).sort((a, b) => a - b);
    return sorted.at(-1)! / sorted[sorted.length >> 1]!;
  });
  return { loss: evaluation.lossSum / evaluation.tokens, hash, largestNorm: Math.max(...largest), refusals: Object.fromEntries(codes.map(({ code, count }) => [code, count])) }; // prettier-ignore
}
