/** @file Dropout masks drawn on the host, the same for every engine and every time a lease is computed. */
import type { TensorShape } from "../numerics/layout.ts";
import { randomUint32, streamKey } from "../numerics/rng.ts";

export type DropoutKey = { readonly seed: number; readonly step: number; readonly samples: readonly number[] };

/**
 * The masks of one batch: value i of a sample's mask at site s is 0 with probability `rate`, else 1/(1 − rate), drawn as
 * number i of the stream (seed, step, sample, s). Shapes: site shape [...S] → [B·S] flat, by the site's name.
 */
export function dropoutMasks(
  sites: readonly TensorShape[],
  rate: number,
  { seed, step, samples }: DropoutKey,
): ReadonlyMap<string, Float32Array> {
  const threshold = rate * 4294967296;
  const kept = 1 / (1 - rate);
  const masks = new Map<string, Float32Array>();
  for (const [site, { name, shape }] of sites.entries()) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const mask = new Float32Array(samples.length * size);
    for (const [row, sample] of samples.entries()) {
      const key = streamKey(seed, step, sample, site);
      for (let i = 0; i < size; i++) mask[row * size + i] = randomUint32(key, i) < threshold ? 0 : kept;
    }
    masks.set(name, mask);
  }
  return masks;
}
