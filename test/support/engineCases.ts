/** @file Small models and batches on which engines are compared: odd shapes, bias, dropout and ignored targets where formulas differ. */
import type { Batch } from "../../shared/engine/engine.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { initialParams } from "../../shared/model/init.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import { layoutOf, type ParamLayout } from "../../shared/numerics/layout.ts";
import { randomNormal, randomUint32, streamKey } from "../../shared/numerics/rng.ts";

export type EngineCase = { name: string; spec: ModelSpec; layout: ParamLayout; params: Float32Array; batch: Batch };

const base: ModelSpec = {
  kind: "gpt",
  layers: 2,
  heads: 3,
  width: 12,
  context: 7,
  vocabulary: 11,
  bias: false,
  dropout: 0,
};

export const engineCases: readonly EngineCase[] = [
  engineCase("no bias, 2 layers, 3 heads, odd context", base, 3),
  engineCase("bias and dropout", { ...base, layers: 1, bias: true, dropout: 0.3 }, 2),
  engineCase("bias, one sample, width 20, one head", { ...base, heads: 1, width: 20, context: 5, bias: true }, 1),
  engineCase("context 32, 2 heads of 4", { ...base, layers: 1, heads: 2, width: 8, context: 32 }, 2),
  engineCase("context 1", { ...base, layers: 1, context: 1 }, 4),
];

/** Large enough that the compiled engine goes sample by sample through attention; too large for the f64 oracle. */
export const largeCases: readonly EngineCase[] = [
  engineCase("context 256, 5 samples", { ...base, layers: 1, heads: 2, width: 8, context: 256, bias: true }, 5),
  engineCase("context 192 with dropout", { ...base, layers: 1, heads: 2, width: 8, context: 192, dropout: 0.2 }, 8),
];

export function engineCase(name: string, spec: ModelSpec, batchSize: number): EngineCase {
  const layout = layoutOf(gptTensors(spec));
  const params = initialParams(spec, layout, 5);
  // Larger than a fresh model's, so that attention is far from uniform and GELU far from linear; gains and biases not 1 and 0.
  const key = streamKey(99);
  for (const { offset, size, decay, name } of layout.slots) {
    for (let i = offset; i < offset + size; i++) {
      const noise = randomNormal(key, i);
      params[i] = decay ? 12 * (params[i] ?? 0) + 0.05 * noise : (name.endsWith(".bias") ? 0 : 1) + 0.3 * noise;
    }
  }
  return { name, spec, layout, params, batch: randomBatch(spec, batchSize, 17) };
}

/** Random tokens; every fifth target is ignored. */
export function randomBatch(spec: ModelSpec, batchSize: number, seed: number): Batch {
  const n = batchSize * spec.context;
  const draw = (stream: number, i: number) => randomUint32(streamKey(seed, stream), i) % spec.vocabulary;
  return {
    batchSize,
    inputs: Int32Array.from({ length: n }, (_, i) => draw(1, i)),
    targets: Int32Array.from({ length: n }, (_, i) => (i % 5 === 3 ? -1 : draw(2, i))),
    dropout: { seed, step: 3, samples: Array.from({ length: batchSize }, (_, b) => 1000 + 7 * b) },
  };
}

/** ‖a − b‖/‖b‖, in f64; 0 when both are 0. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += ((a[i] ?? Number.NaN) - (b[i] ?? Number.NaN)) ** 2;
    norm += (b[i] ?? 0) ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}
