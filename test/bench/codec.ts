/**
 * @file What the coordinator's numbers cost: codecs, AdamW, hash (ns per element, one thread) and the arena's commands (ms,
 * 1 and 2 threads). `npm run bench -- codec [parameters]`; the default is the size of preset `tiny`.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createArena, initialState } from "../../coordinator/optimizer/arena.ts";
import { openJournal } from "../../coordinator/store/journal.ts";
import { checkPayload, codecs, decodeAdd, decodeApply, encode, encodedBytes, type Codec } from "../../shared/codec/codec.ts"; // prettier-ignore
import { adamw } from "../../shared/numerics/adamw.ts";
import { hashParams } from "../../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../../shared/numerics/layout.ts";
import { squaredNorm } from "../../shared/numerics/norm.ts";
import { randomNormal } from "../../shared/numerics/rng.ts";

const REPEATS = 60;
const WARM_UP = 10;
const optimizer = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 };

export async function run(args: readonly string[]): Promise<void> {
  const parameters = Number(args[0] ?? 811_008);
  if (!Number.isInteger(parameters) || parameters < 256) throw new RangeError(`parameters "${args[0]}", at least 256`);
  const layout = layoutOf([{ name: "all", shape: [Math.ceil(parameters / 256), 256] }]);
  console.log(`${cpus()[0]?.model ?? "?"}, ${availableParallelism()} cores, ${new Date().toISOString().slice(0, 10)}`);
  console.log(`${layout.length} parameters; median (fastest) of ${REPEATS} runs\n`);
  loops(layout);
  console.log("\ncodec threads journal       check         add         step");
  for (const codec of ["f32", "i8"] as const) {
    for (const threads of [1, 2]) {
      for (const journalled of [false, true]) await arenaStep(layout, codec, threads, journalled);
    }
  }
}

function loops(layout: ParamLayout): void {
  const { length } = layout;
  const values = floats(length, (i) => 1e-3 * randomNormal(1, i));
  const [params, m, v] = [floats(length), floats(length), floats(length)] as const;
  const total = new Float64Array(new SharedArrayBuffer(8 * length));
  const perElement = (name: string, work: () => void): void => {
    const times = Array.from({ length: REPEATS + WARM_UP }, () => {
      const begin = performance.now();
      work();
      return ((performance.now() - begin) * 1e6) / length;
    });
    console.log(`${name.padEnd(18)} ${summary(times, 2)} ns/element`);
  };
  for (const codec of codecs) {
    const bytes = new Uint8Array(new SharedArrayBuffer(encodedBytes(codec, length)));
    perElement(`${codec} encode`, () => encode(codec, values, bytes));
    perElement(`${codec} check`, () => checkPayload(codec, bytes, length));
    perElement(`${codec} decodeAdd`, () => decodeAdd(codec, bytes, total));
    perElement(`${codec} decodeApply`, () => decodeApply(codec, bytes, params));
  }
  let step = 0;
  const options = { ...optimizer, learningRate: 1e-3, gradientScale: 0.5 };
  perElement("AdamW", () => adamw({ params, m, v }, values, { ...options, step: ++step }, layout));
  perElement("squared norm", () => squaredNorm(values));
  perElement("hash", () => hashParams(values));
}

async function arenaStep(layout: ParamLayout, codec: Codec, threads: number, journalled: boolean): Promise<void> {
  const { length } = layout;
  const dir = await mkdtemp(join(tmpdir(), "bench-"));
  const arena = createArena({ layout, codec, optimizer, threads });
  arena.restore(initialState(floats(length, (i) => 0.02 * randomNormal(1, i))));
  const file = await openJournal({ dir, snapshotVersion: 0, length });
  const payload = new Uint8Array(encodedBytes(codec, length));
  encode(codec, floats(length, (i) => randomNormal(2, i)), payload); // prettier-ignore
  const times = { check: [] as number[], add: [] as number[], step: [] as number[] };
  for (let version = 1; version <= REPEATS + WARM_UP; version++) {
    const t0 = performance.now();
    const checked = await arena.check(payload);
    if (!checked.ok) throw new Error(checked.problem);
    const t1 = performance.now();
    await arena.add(checked.staged);
    const t2 = performance.now();
    // Always the first record: the file stays small, and the page cache is what a journal costs here.
    const journal = { file: file.journal(), version, sync: false };
    await arena.step({ tokens: 768, learningRate: 1e-3, ...(journalled ? { journal } : {}) });
    const t3 = performance.now();
    times.check.push(t1 - t0);
    times.add.push(t2 - t1);
    times.step.push(t3 - t2);
  }
  await arena.close();
  await file.close();
  await rm(dir, { recursive: true });
  const columns = [times.check, times.add, times.step].map((list) => summary(list, 1).padStart(12)).join("");
  console.log(`${codec.padEnd(5)} ${String(threads).padEnd(7)} ${String(journalled).padEnd(7)} ${columns} ms`);
}

function floats(length: number, value: (i: number) => number = () => 0): Float32Array {
  const out = new Float32Array(new SharedArrayBuffer(4 * length));
  for (let i = 0; i < length; i++) out[i] = value(i);
  return out;
}

function summary(times: readonly number[], digits: number): string {
  const sorted = times.slice(WARM_UP).sort((a, b) => a - b);
  return `${sorted[Math.floor(sorted.length / 2)]!.toFixed(digits)} (${sorted[0]!.toFixed(digits)})`;
}
