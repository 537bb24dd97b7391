import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openHistory, type History } from "../../../coordinator/store/history.ts";
import { openLedger, type Ledger } from "../../../coordinator/store/ledger.ts";
import { createLive, type Live } from "../../../coordinator/observe/live.ts";
import type { LiveEvents } from "../../../shared/wire/dashboard.ts";
import type { Status } from "../../../shared/wire/status.ts";
import { applyChange } from "../../../shared/wire/statusChange.ts";

let dir: string;
let ledger: Ledger;
let history: History;
let live: Live;
let now: Status;

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
  now = status;
  live = createLive({ history, status: () => now, nowMs: () => 42, process: "p1", maxReaders: 2, maxUnsentBytes: 4096, onProblem }); // prettier-ignore
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
  expect(first).toMatchObject([
    {
      name: "hello",
      data: {
        process: "p1",
        startedMs: 42,
        status,
        scaling: [{ workers: 1, rounds: 1, tokens: 10, roundMs: 5 }],
        events: [{ atMs: 7, code: "joined", text: "a worker" }],
      },
    },
  ]);

  commit(2);
  commit(3);
  ledger.event(8, "left", "a worker");
  ledger.flush();
  now = { ...status, version: 3 };
  live.tick();
  const second = await next();
  expect(second).toMatchObject([
    {
      name: "news",
      data: {
        status: { run: { version: 3 }, left: [], fields: {}, joined: [] },
        scaling: [{ workers: 1, rounds: 3, tokens: 30, roundMs: 15 }],
        rounds: { curves: { version: [2, 3], loss: [2, 2] } },
        events: [{ code: "left" }],
      },
    },
  ]);

  live.tick();
  expect(await next()).toEqual([
    { name: "news", data: { status: { run: {}, left: [], fields: {}, joined: [] } } },
  ]); // prettier-ignore
});

test("who comes later has the same status as the others after each second, and no more digits of a speed than are shown", async () => {
  const worker = { worker: "a", name: "", kind: "node", device: "", state: "ready", backend: "onnx", fallbacks: [], tokens: 1, tokensPerSecond: 1 / 3, share: 2 / 3, refused: 0, waitingReason: "", behind: 0, leases: 1, strikes: 0 } as const; // prettier-ignore
  const first = reader();
  const follow = async (follower: Status | null, { next }: ReturnType<typeof reader>): Promise<Status> => {
    const [message] = await next();
    if (message?.name === "hello") return message.data.status;
    return applyChange(follower!, message!.data.status);
  };
  let early = await follow(null, first);
  now = { ...status, workers: [worker] };
  live.tick();
  early = await follow(early, first);
  // What is told of a moment ago is what the others have: the next change is counted from there.
  now = { ...status, workers: [{ ...worker, tokens: 2 }] };
  const second = reader();
  let late = await follow(null, second);
  expect(late).toEqual(early);
  now = {
    ...status,
    version: 1,
    workers: [
      { ...worker, tokens: 3 },
      { ...worker, worker: "b" },
    ],
  };
  live.tick();
  [early, late] = [await follow(early, first), await follow(late, second)];
  const shown = { ...worker, tokensPerSecond: 0.33333, share: 0.667 };
  expect(early).toEqual({
    ...now,
    workers: [
      { ...shown, tokens: 3 },
      { ...shown, worker: "b" },
    ],
  });
  expect(late).toEqual(early);
});

test("an evaluation is told when it is there, however many rounds after its version", async () => {
  for (let version = 1; version <= 9; version++) commit(version);
  live.tick();
  const { next } = reader();
  await next();
  ledger.recordEvaluation({ version: 4, samples: 1, tokens: 10, lossSum: 30, atMs: 5 });
  live.tick();
  expect(await next()).toMatchObject([
    { name: "news", data: { rounds: { curves: { version: [] }, evaluations: { version: [4], loss: [3] } } } },
  ]);
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
  for (let version = 1; version <= 20; version++) {
    commit(version);
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
  expect(await second.next()).toMatchObject([{ name: "news", data: { rounds: { curves: { version: [51] } } } }]);
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
