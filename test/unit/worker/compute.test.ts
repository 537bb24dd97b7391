/** @file The compute thread's pace, under a clock of its own: an engine whose every unit takes 100 ms. */
import { expect, test } from "vitest";
import type { Batch, Engine, Loss } from "../../../shared/engine/engine.ts";
import { writeParams } from "../../../shared/codec/paramsFile.ts";
import type { Manifest } from "../../../shared/data/manifest.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { initialParams } from "../../../shared/model/init.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import type { Lease, RunDescription } from "../../../shared/wire/protocol.ts";
import type { ComputeCommand, ComputeEvent } from "../../../shared/worker/commands.ts";
import { createCompute } from "../../../shared/worker/compute.ts";
import { memoryShards } from "../../support/shards.ts";

const UNIT_MS = 100;

const model = {
  kind: "gpt",
  layers: 1,
  heads: 1,
  width: 4,
  context: 4,
  vocabulary: 7,
  bias: false,
  dropout: 0,
} as const;

const run: RunDescription = {
  name: "paced",
  model,
  seed: 1,
  sampling: "shuffled",
  batch: 40,
  unit: 2,
  evaluationUnit: 2,
  steps: 10,
  codec: "f32",
  strict: true,
  manifestPath: "/corpus/x/manifest.json",
};

/** Runs the commands to their end; what came out, and when. */
async function compute(
  commands: readonly ComputeCommand[],
  during: (nowMs: number) => ComputeCommand | null = () => null,
  { codec = "f32", strict = true, ...encoding }: Partial<Pick<RunDescription, "codec" | "strict">> & Pick<Engine, "encodedGradient"> = {}, // prettier-ignore
) {
  const layout = layoutOf(gptTensors(model));
  const params = initialParams(model, layout, 1);
  const snapshot = writeParams(layout, params);
  const hash = hashParams(params);
  const shards = memoryShards([Uint16Array.from({ length: 400 }, (_, i) => i % 7)], 64);
  const manifest: Manifest = {
    format: 1,
    name: "counting",
    tokenizer: { kind: "char", file: "tokenizer.json", vocabulary: 7, sha256: "0".repeat(64) },
    pieceBytes: 64,
    splits: { train: shards.split, val: shards.split },
  };
  let nowMs = 0;
  const finished = Promise.withResolvers<void>();
  const fetched: { url: string; isPrepared: boolean }[] = [];
  const events: { atMs: number; event: ComputeEvent }[] = [];
  const thread = createCompute({
    createEngine: async () => ({
      fallbacks: [],
      engine: {
        backend: "cpu",
        load: async () => {},
        gradient: async () => {
          nowMs += UNIT_MS;
          return { lossSum: 1, tokens: 8 };
        },
        loss: async () => ({ lossSum: 1, tokens: 8 }),
        logits: async () => new Float32Array(),
        dispose: async () => {},
        ...encoding,
      },
    }),
    fetchBytes: async (url, range) => {
      fetched.push({ url, isPrepared: events.some(({ event }) => event.type === "prepared") });
      if (url.endsWith("manifest.json")) return new TextEncoder().encode(JSON.stringify(manifest));
      if (range === undefined) return snapshot.slice();
      return shards.readRange(url.slice(url.lastIndexOf("/") + 1), range.start, range.end);
    },
    emit: (event) => {
      events.push({ atMs: nowMs, event });
      if (event.type === "leaseDone") finished.resolve();
      if (event.type === "failed") finished.reject(new Error(event.message));
    },
    nowMs: () => nowMs,
    pause: async (ms) => {
      nowMs += ms;
      const command = during(nowMs);
      if (command !== null) thread.command(command);
    },
  });
  thread.command({ type: "prepare", run: { ...run, codec, strict }, url: "http://there" });
  thread.command({ type: "load", snapshot: { path: "/s", version: 3, hash } });
  for (const command of commands) thread.command(command);
  await finished.promise;
  const contributions = events.flatMap(({ atMs, event }) => (event.type === "contribution" ? [{ atMs, event }] : []));
  const units = contributions.map(({ atMs }) => atMs);
  return { units, payloads: contributions.map(({ event }) => event.payload), last: events.at(-1), fetched };
}

const lease: Lease = {
  lease: 1,
  kind: "train",
  base: 3,
  origin: 0,
  samples: 40,
  firstUnit: 0,
  units: 8,
  deadlineMs: 1e6,
};

/** Times between the ends of units. */
const gaps = (units: readonly number[]): number[] => units.slice(1).map((atMs, i) => Math.round(atMs - units[i]!));

test("a quarter of the time means that a unit is followed by three times as much rest", async () => {
  const { units } = await compute([
    { type: "pace", dutyCycle: 0.25 },
    { type: "work", lease },
  ]);
  expect(gaps(units)).toEqual(Array.from({ length: 7 }, () => 4 * UNIT_MS));
});

test("the first unit comes right after the examination: that is computed once, and is what a guest waits for", async () => {
  const { units } = await compute([
    { type: "pace", dutyCycle: 0.25 },
    { type: "work", lease },
  ]);
  expect(units[0]).toBe(3 * UNIT_MS);
});

test("full speed rests not at all", async () => {
  const { units } = await compute([{ type: "work", lease }]);
  expect(gaps(units)).toEqual(Array.from({ length: 7 }, () => UNIT_MS));
});

test("another pace takes effect in the middle of a rest", async () => {
  let told = false;
  const { units } = await compute(
    [
      { type: "pace", dutyCycle: 0.01 },
      { type: "work", lease },
    ],
    (nowMs) => {
      if (told || nowMs < 1000) return null;
      told = true;
      return { type: "pace", dutyCycle: 1 };
    },
  );
  expect(units).toHaveLength(8);
  // A hundredth would have rested 9.9 s after the first unit alone.
  expect(units[1]).toBeLessThan(1500);
});

test("a newer version ends the lease during a rest, not after it", async () => {
  let told = false;
  const { units, last } = await compute(
    [
      { type: "pace", dutyCycle: 0.01 },
      { type: "work", lease },
    ],
    (nowMs) => {
      if (told || nowMs < 1000) return null;
      told = true;
      return { type: "forget" };
    },
  );
  expect(units).toHaveLength(1);
  expect(last?.event).toEqual({ type: "leaseDone", lease: 1, dropped: 7 });
  expect(last?.atMs).toBeLessThan(1500);
});

test("a lease that would be refused ends during a rest", async () => {
  let told = false;
  const { units, last } = await compute(
    [
      { type: "pace", dutyCycle: 0.01 },
      { type: "work", lease },
    ],
    (nowMs) => {
      if (told || nowMs < 1000) return null;
      told = true;
      return { type: "drop", before: 2 };
    },
  );
  expect(units).toHaveLength(1);
  expect(last?.event).toEqual({ type: "leaseDone", lease: 1, dropped: 7 });
  expect(last?.atMs).toBeLessThan(1500);
});

async function encodedGradient(_: Batch, payload: Uint8Array): Promise<Loss> {
  payload.fill(77);
  return { lossSum: 1, tokens: 8 };
}

/** Of each contribution of a lease: whether the engine encoded it. */
async function encodedThere(codec: "f32" | "i8", strict: boolean, units: number): Promise<boolean[]> {
  const { payloads } = await compute([{ type: "work", lease: { ...lease, units } }], undefined, {
    codec,
    strict,
    encodedGradient,
  });
  return payloads.map((payload) => payload.every((byte) => byte === 77));
}

test("an engine that encodes does so for units on their own, in a run with its codec", async () => {
  expect(await encodedThere("i8", true, 3)).toEqual([true, true, true]);
  expect(await encodedThere("i8", false, 1)).toEqual([true]);
  // Folded: what is encoded is the sum.
  expect(await encodedThere("i8", false, 3)).toEqual([false]);
  expect(await encodedThere("f32", true, 2)).toEqual([false, false]);
});

test("θ is fetched while the engine is made, and once", async () => {
  const { fetched } = await compute([{ type: "work", lease }]);
  expect(fetched.filter(({ url }) => url === "http://there/s")).toEqual([{ url: "http://there/s", isPrepared: false }]);
});
