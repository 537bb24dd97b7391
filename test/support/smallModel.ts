/** @file A model-shaped layout of a few chunks with θ and gradients from seeds, for tests of what the coordinator does with numbers. */

import { layoutOf, type ParamLayout } from "../../shared/numerics/layout.ts";
import { randomUniform, streamKey } from "../../shared/numerics/rng.ts";

/** Matrices and vectors of sizes that fill no block; 3 chunks and a rest, so that 4 threads have uneven shares. */
export const smallLayout: ParamLayout = layoutOf([
  { name: "wte", shape: [700, 130] },
  { name: "ln.weight", shape: [130] },
  { name: "fc.weight", shape: [130, 520] },
  { name: "fc.bias", shape: [520] },
  { name: "proj.weight", shape: [330, 130] },
]);

/** Uniform in ±scale·2^k, k by tensor so that blocks differ in scale; zero in the padding. */
export function randomParams(layout: ParamLayout, seed: number, scale: number): Float32Array {
  const values = new Float32Array(layout.length);
  layout.slots.forEach(({ offset, size }, index) => {
    const key = streamKey(seed, index);
    for (let i = 0; i < size; i++) values[offset + i] = (randomUniform(key, i) * 2 - 1) * scale * 2 ** (index - 2);
  });
  return values;
}
