/** @file The parameters a run starts from: a pure function of spec, layout and seed. */
import type { ParamLayout } from "../numerics/layout.ts";
import { randomNormal, streamKey } from "../numerics/rng.ts";
import type { ModelSpec } from "./spec.ts";

/** GPT-2's: N(0, 0.02), so that a fresh model is nearly uniform: loss ln V. */
const DEVIATION = 0.02;

/**
 * θ [P]: weights N(0, 0.02), projections back into the residual stream N(0, 0.02/√(2·layers)) (each layer adds two of
 * them), gains 1, biases and padding 0. Each tensor draws from a stream of its own, keyed by (seed, its number).
 */
export function initialParams(spec: ModelSpec, layout: ParamLayout, seed: number): Float32Array {
  const params = new Float32Array(layout.length);
  for (const [number, { name, shape, offset, size }] of layout.slots.entries()) {
    const values = params.subarray(offset, offset + size);
    if (name.endsWith(".bias")) continue;
    if (shape.length === 1) {
      values.fill(1);
      continue;
    }
    const deviation = name.endsWith(".c_proj.weight") ? DEVIATION / Math.sqrt(2 * spec.layers) : DEVIATION;
    const key = streamKey(seed, number);
    for (let i = 0; i < size; i++) values[i] = deviation * randomNormal(key, i);
  }
  return params;
}
