import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openHistory, type History } from "../../../coordinator/store/history.ts";
import { openLedger, type Ledger } from "../../../coordinator/store/ledger.ts";
import { createLive, type Live } from "../../../coordinator/observe/live.ts";
import type { LiveEvents } from "../../../shared/wire/dashboard.ts";
import type { Status } from "../../../shared/wire/status.ts";

let dir: string;
let ledger: Ledger;
let history: History;
let live: Live;

const status: Status = {
  run: "r",
  about: null,
  corpus: "a text",
  paused: {},
  hash: "00ff00ff00ff00ff",
  phase: "working",
  reason: "round 1: 0 of 4 units trained by 1 worker",
  version: 0,
  steps: 10,
  parameters: 100,
  tokens: 0,
  tokensPerSecond: 0,
  trainLoss: null,
  validationLoss: null,
  learningRate: 1e-3,
  gradientNorm: null,
  codec: "f32",
  strict: true,
  counts: {},
  refusals: {},
  workers: [],
};

function onProblem(problem: string): void {
  expect.unreachable(problem);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-live-"));
  ledger = openLedger(join(dir, "ledger.sqlite"));
  history = openHistory(join(dir, "history.sqlite"), join(dir, "ledger.sqlite"));
  live = createLive({ history, status: () => status, nowMs: () => 42, process: "p1", maxReaders: 2, maxUnsentBytes: 4096, onProblem }); // prettier-ignore
});

afterEach(() => {
  live.close();
  history.close();
  ledger.close();
  rmSync(dir, { recursive: true });
});

function commit(version: number): void {
  const row = { version, origin: version, samples: 1, tokens: 10, lossSum: 20, gradientNorm: 1, learningRate: 1e-3, hash: String(version), committedMs: version, roundMs: 5, computeMs: 3, commitMs: 1, workers: 1, bytesIn: 1, bytesOut: 1, baseHash: String(version - 1), journal: 0, record: version - 1 }; // prettier-ignore
  ledger.commitRound(row, [], { issued: 1, leases: [], returned: [] });
}

type Message = { [Name in keyof LiveEvents]: { name: Name; data: LiveEvents[Name] } }[keyof LiveEvents];

function reader(): { next: () => Promise<Message[]>; cancel: () => Promise<void> } {
  const stream = live.open();
  if (stream === null) throw new Error("no more readers are allowed");
  const chunks = stream.getReader();
  return {
    next: async () => {
      const { value } = await chunks.read();
      return new TextDecoder()
        .decode(value)
        .split("\n\n")
        .filter((part) => part !== "")
        .map((part) => {
          const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(part) ?? [];
          return { name, data: JSON.parse(data ?? "") as unknown } as Message;
        });
    },
    cancel: () => chunks.cancel(),
  };
}

test("a reader is told which process this is, how the run stands, and then only what is new", async () => {
  commit(1);
  ledger.event(7, "joined", "a worker");
  ledger.flush();
  live.tick();
  const { next } = reader();
  const first = await next();
  expect(first.map(({ name }) => name)).toEqual(["hello", "status", "events"]);
  expect(first[0]?.data).toEqual({ process: "p1", startedMs: 42 });
  expect(first[1]?.data).toMatchObject({ status, scaling: [{ workers: 1, rounds: 1, tokens: 10, roundMs: 5 }] });
  expect(first[2]?.data).toMatchObject({ events: [{ atMs: 7, code: "joined", text: "a worker" }] });

  commit(2);
  commit(3);
  ledger.event(8, "left", "a worker");
  ledger.flush();
  live.tick();
  const second = await next();
  expect(second.map(({ name }) => name)).toEqual(["status", "rounds", "events"]);
  expect(second[1]?.data).toMatchObject({ curves: { version: [2, 3], loss: [2, 2] } });
  expect(second[2]?.data).toMatchObject({ events: [{ code: "left" }] });

  live.tick();
  expect((await next()).map(({ name }) => name)).toEqual(["status"]);
});

test("an evaluation is told when it is there, however many rounds after its version", async () => {
  for (let version = 1; version <= 9; version++) commit(version);
  live.tick();
  const { next } = reader();
  await next();
  ledger.recordEvaluation({ version: 4, samples: 1, tokens: 10, lossSum: 30, atMs: 5 });
  live.tick();
  const told = (await next()).find(({ name }) => name === "rounds");
  expect(told?.data).toMatchObject({ curves: { version: [] }, evaluations: { version: [4], loss: [3] } });
});

test("[I5] readers are bounded, and who leaves makes room", async () => {
  const first = reader();
  reader();
  expect(live.open()).toBeNull();
  await first.cancel();
  expect(live.readers()).toBe(1);
  reader();
  expect(live.readers()).toBe(2);
});

test("[I5] a reader that does not read is dropped before more than the bound is kept for it; the others read on", async () => {
  const stuck = live.open()!;
  const reads = reader();
  for (let i = 0; i < 20; i++) {
    live.tick();
    await reads.next();
  }
  expect(live.readers()).toBe(1);
  await expect(
    (async () => {
      const kept = stuck.getReader();
      let bytes = 0;
      for (;;) {
        const { value, done } = await kept.read();
        if (done) return bytes;
        bytes += value.length;
      }
    })(),
  ).rejects.toThrow("reads too slowly");
});

test("after a time without readers the next one is not told the past as news", async () => {
  const first = reader();
  await first.next();
  await first.cancel();
  for (let version = 1; version <= 50; version++) commit(version);
  live.tick();
  const second = reader();
  await second.next();
  commit(51);
  live.tick();
  const told = (await second.next()).find(({ name }) => name === "rounds");
  expect(told?.data).toMatchObject({ curves: { version: [51] } });
});

test("curves that cannot be written are told once each time, and catch up when they can", () => {
  let hasRoom = false;
  const told: string[] = [];
  const refresh = (): boolean => {
    if (!hasRoom) throw new Error("disk full");
    return history.refresh();
  };
  const cramped = createLive({ history: { ...history, refresh }, status: () => status, nowMs: () => 42, process: "p1", onProblem: (problem) => told.push(problem) }); // prettier-ignore
  const problem = "the dashboard's curves wait, and catch up later: disk full";
  commit(1);
  cramped.tick();
  cramped.tick();
  expect(told).toEqual([problem]);
  hasRoom = true;
  cramped.tick();
  expect(history.curves({ from: 1, to: 1, points: 1 }).newest).toBe(1);
  hasRoom = false;
  cramped.tick();
  expect(told).toEqual([problem, problem]);
  cramped.close();
});
