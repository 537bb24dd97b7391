import { closeSync, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createArena, initialState, type Arena, type OptimizerConfig } from "../../../coordinator/optimizer/arena.ts";
import { openJournal } from "../../../coordinator/store/journal.ts";
import { decodeApply, encoded, type Codec } from "../../../shared/codec/codec.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { digest } from "../../support/digest.ts";
import { randomParams, smallLayout as layout } from "../../support/smallModel.ts";

const optimizer: OptimizerConfig = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 };
const arenas: Arena[] = [];

function startArena(codec: Codec, threads: number, config: OptimizerConfig = optimizer): Arena {
  const arena = createArena({ layout, codec, optimizer: config, threads });
  arenas.push(arena);
  arena.restore(initialState(randomParams(layout, 1, 0.02)));
  return arena;
}

afterEach(async () => {
  await Promise.all(arenas.splice(0).map((arena) => arena.close()));
});

async function addAll(arena: Arena, payloads: readonly Uint8Array[]): Promise<void> {
  for (const payload of payloads) {
    const checked = await arena.check(payload);
    if (!checked.ok) throw new Error(checked.problem);
    await arena.add(checked.staged);
  }
}

/** Two contributions of a round. */
function contributions(codec: Codec, round: number, scale = 3): Uint8Array[] {
  return [1, 2].map((part) => encoded(codec, randomParams(layout, 100 * round + part, scale)));
}

/** A quantizer of its own: by loops and comparisons, in f64. */
function quantized(codec: Codec, values: Float32Array): Float32Array {
  if (codec === "f32") return values;
  const [block, max] = codec === "i8" ? [256, 127] : [64, 7];
  const out = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += block) {
    const part = values.subarray(start, start + block);
    const a = Math.max(...part.map(Math.abs));
    let unit = 2 ** -100;
    while (a > max * unit) unit *= 2;
    part.forEach((x, i) => {
      const floor = Math.floor(Math.abs(x) / unit);
      const rest = Math.abs(x) / unit - floor;
      out[start + i] = Math.sign(x) * unit * (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
    });
  }
  return out;
}

/** The coordinator's arithmetic once more, in one thread and plain loops; no clipping. */
function referenceRun(codec: Codec, rounds: number, tokens: number, learningRate: number): Float32Array {
  const params = randomParams(layout, 1, 0.02);
  const master = params.slice();
  const m = new Float32Array(layout.length);
  const v = new Float32Array(layout.length);
  for (let t = 1; t <= rounds; t++) {
    const sums = [1, 2].map((part) => quantized(codec, randomParams(layout, 100 * t + part, 3)));
    for (const slot of layout.slots) {
      for (let i = slot.offset; i < slot.offset + slot.size; i++) {
        const g = Math.fround((sums[0]![i]! + sums[1]![i]!) * (1 / tokens));
        m[i] = 0.9 * m[i]! + (1 - 0.9) * g;
        v[i] = 0.99 * v[i]! + (1 - 0.99) * g * g;
        const decayed = master[i]! * (1 - learningRate * (slot.shape.length > 1 ? 0.1 : 0));
        const c1 = 1 / (1 - 0.9 ** t);
        const c2 = 1 / (1 - 0.99 ** t);
        master[i] = decayed - (learningRate * (m[i]! * c1)) / (Math.sqrt(v[i]! * c2) + 1e-8);
      }
    }
    const update = quantized(codec, master.map((x, i) => x - params[i]!)); // prettier-ignore
    for (let i = 0; i < params.length; i++) params[i]! += update[i]!;
  }
  return params;
}

for (const codec of ["f32", "i8", "i4"] as const) {
  test(`[I1] ${codec}: 1, 2 and 4 threads give the bits of a single-threaded reference`, async () => {
    const expected = hashParams(referenceRun(codec, 4, 768, 1e-3));
    for (const threads of [1, 2, 4]) {
      const arena = startArena(codec, threads, { ...optimizer, clipNorm: 0 });
      expect(arena.threads).toBe(threads);
      for (let t = 1; t <= 4; t++) {
        await addAll(arena, contributions(codec, t));
        await arena.step({ tokens: 768, learningRate: 1e-3 });
      }
      expect(arena.hash()).toBe(expected);
      expect(hashParams(arena.params().slice())).toBe(expected);
    }
  });

  test(`[I3] ${codec}: a worker that applies the updates holds the coordinator's bits, whatever the threads`, async () => {
    const hashes: string[][] = [];
    for (const threads of [1, 3]) {
      const arena = startArena(codec, threads);
      const worker = randomParams(layout, 1, 0.02);
      const seen: string[] = [];
      for (let t = 1; t <= 4; t++) {
        await addAll(arena, contributions(codec, t));
        const step = await arena.step({ tokens: 768, learningRate: 1e-3 });
        if (!step.applied) throw new Error("not applied");
        decodeApply(codec, step.update, worker);
        expect(hashParams(worker)).toBe(step.hash);
        seen.push(step.hash, String(step.gradientNorm));
      }
      hashes.push(seen);
    }
    expect(hashes[1]).toEqual(hashes[0]);
  });
}

test("the norm is that of the mean gradient, and clipping brings a huge one to the step of a small one", async () => {
  const [a, b] = [startArena("f32", 2), startArena("f32", 2)];
  const gradient = randomParams(layout, 7, 1);
  const norm = Math.sqrt(gradient.reduce((sum, x) => sum + x * x, 0));
  await addAll(a, [encoded("f32", gradient)]);
  await addAll(b, [
    encoded(
      "f32",
      gradient.map((x) => x * 1024),
    ),
  ]);
  const [small, large] = [
    await a.step({ tokens: 4, learningRate: 1e-3 }),
    await b.step({ tokens: 4, learningRate: 1e-3 }),
  ];
  expect(small.gradientNorm / (norm / 4)).toBeCloseTo(1, 6);
  expect(large.gradientNorm / (norm * 256)).toBeCloseTo(1, 6);
  const difference = a.params().map((x, i) => x - b.params()[i]!);
  expect(difference.reduce((max, x) => Math.max(max, Math.abs(x)), 0)).toBeLessThan(1e-6);
});

test("[I6] a payload that is not in order is named and changes nothing", async () => {
  const arena = startArena("f32", 2);
  const [first, second] = contributions("f32", 1) as [Uint8Array, Uint8Array];
  await addAll(arena, [first]);
  const bad = second.slice();
  new Float32Array(bad.buffer)[layout.length - 1] = NaN;
  expect(await arena.check(bad)).toEqual({ ok: false, problem: "nonFinite" });
  expect(await arena.check(second.subarray(4))).toEqual({ ok: false, problem: "length" });
  await addAll(arena, [second]);
  const disturbed = await arena.step({ tokens: 768, learningRate: 1e-3 });
  const other = startArena("f32", 2);
  await addAll(other, [first, second]);
  expect(digest(await other.step({ tokens: 768, learningRate: 1e-3 }))).toEqual(digest(disturbed));
});

test("the squared norm of a contribution is the same for any number of threads", async () => {
  const payload = contributions("i8", 1)[0]!;
  const norms = [];
  for (const threads of [1, 2, 4]) {
    const checked = await startArena("i8", threads).check(payload);
    norms.push(checked.ok && checked.staged.squaredNorm);
  }
  const decoded = new Float32Array(layout.length);
  decodeApply("i8", payload, decoded);
  expect(Number(norms[0]) / decoded.reduce((sum, x) => sum + x * x, 0)).toBeCloseTo(1, 9);
  expect(new Set(norms).size).toBe(1);
});

test("a merged gradient that is not finite is not applied: θ, t and the next step are as if it had not been", async () => {
  const arena = startArena("f32", 2);
  const before = arena.hash();
  const huge = encoded("f32", new Float32Array(layout.length).fill(3e38));
  await addAll(arena, [huge, huge]);
  expect(await arena.step({ tokens: 1, learningRate: 1e-3 })).toMatchObject({ applied: false });
  expect(arena.hash()).toBe(before);
  expect(arena.steps()).toBe(0);
  await addAll(arena, contributions("f32", 1));
  const after = await arena.step({ tokens: 768, learningRate: 1e-3 });
  const other = startArena("f32", 2);
  await addAll(other, contributions("f32", 1));
  expect(digest(await other.step({ tokens: 768, learningRate: 1e-3 }))).toEqual(digest(after));
});

test("state and restore carry on bit by bit in another arena", async () => {
  const arena = startArena("i8", 2);
  await addAll(arena, contributions("i8", 1));
  await arena.step({ tokens: 768, learningRate: 1e-3 });
  const state = await arena.state();
  expect(state.hashes).toEqual({
    params: arena.hash(),
    master: hashParams(state.master),
    m: hashParams(state.m),
    v: hashParams(state.v),
  });
  const other = startArena("i8", 1);
  other.restore(state);
  for (const each of [arena, other]) await addAll(each, contributions("i8", 2));
  const step = await arena.step({ tokens: 100, learningRate: 2e-3 });
  expect(digest(await other.step({ tokens: 100, learningRate: 2e-3 }))).toEqual(digest(step));
});

test("params() shows whole versions only: the old one while a step runs", async () => {
  const arena = startArena("f32", 2);
  await addAll(arena, contributions("f32", 1));
  const before = hashParams(arena.params());
  const stepping = arena.step({ tokens: 768, learningRate: 1e-3 });
  for (let i = 0; i < 20; i++) {
    expect(hashParams(arena.params())).toBe(before);
    await new Promise((resolve) => setImmediate(resolve));
    if (arena.hash() !== before) break;
  }
  const step = await stepping;
  expect(step.applied && step.hash).toBe(hashParams(arena.params()));
});

test("a journal that cannot be written calls the step off, and the step can be taken again", async () => {
  const dir = await mkdtemp(join(tmpdir(), "arena-"));
  const arena = startArena("f32", 2);
  const before = await arena.state();
  await addAll(arena, contributions("f32", 1));
  const journal = await openJournal({ dir, snapshotVersion: 0, length: layout.length });
  const readOnly = openSync(journal.journal().path, "r");
  const options = { tokens: 768, learningRate: 1e-3 };
  for (let attempt = 0; attempt < 2; attempt++) {
    const file = { ...journal.journal(), fd: readOnly };
    await expect(arena.step({ ...options, journal: { file, version: 1, sync: false } })).rejects.toThrow("EBADF");
    expect(digest(await arena.state())).toEqual(digest(before));
  }
  const step = await arena.step({ ...options, journal: { file: journal.journal(), version: 1, sync: true } });
  const other = startArena("f32", 2);
  await addAll(other, contributions("f32", 1));
  expect(digest(await other.step(options))).toEqual(digest(step));
  closeSync(readOnly);
  await journal.close();
  await rm(dir, { recursive: true });
});

test("misuse is an error, not a wrong number", async () => {
  const arena = startArena("f32", 1);
  expect(() => arena.step({ tokens: 10, learningRate: 1e-3 })).toThrow("without a contribution");
  await addAll(arena, contributions("f32", 1));
  expect(() => arena.step({ tokens: 0, learningRate: 1e-3 })).toThrow("0 tokens");
  await expect(arena.step({ tokens: 10, learningRate: NaN })).rejects.toThrow("learning rate NaN");
  const step = arena.step({ tokens: 10, learningRate: 1e-3 });
  await expect(arena.step({ tokens: 10, learningRate: 1e-3 })).rejects.toThrow("under way");
  await step;
  await arena.close();
  await expect(arena.check(contributions("f32", 1)[0]!)).rejects.toThrow("closed");
});

test("threads start with the first command; a copy of θ before it is the copy that they would make", async () => {
  const arena = startArena("i8", 2);
  const alone = await arena.state();
  expect(arena.running()).toBe(0);
  const checked = await arena.check(contributions("i8", 1)[0]!);
  if (checked.ok) arena.discard(checked.staged);
  expect(arena.running()).toBe(2);
  const together = await arena.state();
  expect(alone.hashes).toEqual(together.hashes);
  expect(digest(alone)).toEqual(digest({ ...together, hashes: alone.hashes }));
});
