/** @file Squared norms in f64, in an order that does not depend on who computes which part. */

import { chunkBounds, chunkCount } from "./chunks.ts";

/**
 * Σ x² over values[from, to), in f64. Shape: values [P] f32. Mutates nothing.
 *
 * Also the finite check: the square of a finite f32 is at most 1.2e77, so the result is finite exactly when every
 * element is. Four lanes (i mod 4 from `from`), then (l0 + l1) + (l2 + l3): four independent chains of additions run
 * about three times faster than one. The order is part of the definition. Source: docs/numerics.md §2.
 */
export function squaredNormOf(values: Float32Array, from: number, to: number): number {
  let lane0 = 0;
  let lane1 = 0;
  let lane2 = 0;
  let lane3 = 0;
  const whole = from + ((to - from) & ~3);
  for (let i = from; i < whole; i += 4) {
    const x0 = values[i]!;
    const x1 = values[i + 1]!;
    const x2 = values[i + 2]!;
    const x3 = values[i + 3]!;
    lane0 += x0 * x0;
    lane1 += x1 * x1;
    lane2 += x2 * x2;
    lane3 += x3 * x3;
  }
  for (let i = whole; i < to; i++) lane0 += values[i]! * values[i]!;
  return lane0 + lane1 + (lane2 + lane3);
}

/** Σ over chunks, in chunk order, of {@link squaredNormOf}: the same bits as threads that each did some chunks. */
export function squaredNorm(values: Float32Array): number {
  let sum = 0;
  for (let chunk = 0; chunk < chunkCount(values.length); chunk++) {
    const { from, to } = chunkBounds(chunk, values.length);
    sum += squaredNormOf(values, from, to);
  }
  return sum;
}

/** True when any of values[from, to) is NaN or infinite. */
export function hasNonFinite(values: Float32Array, from = 0, to: number = values.length): boolean {
  return !Number.isFinite(squaredNormOf(values, from, to));
}

/**
 * Factor that brings a vector of this norm down to `clipNorm`: min(1, clipNorm / (norm + 1e-6)). `clipNorm` 0 means no
 * clipping. Source: torch.nn.utils.clip_grad_norm_.
 */
export function clipScale(norm: number, clipNorm: number): number {
  return clipNorm > 0 ? Math.min(1, clipNorm / (norm + 1e-6)) : 1;
}
