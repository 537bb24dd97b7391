/** @file The lossless codec: the floats themselves, little-endian. */

import { squaredNormOf } from "../numerics/norm.ts";
import type { SliceCheck } from "./codec.ts";

/** out's elements [at, at + n) ← values [n]. Mutates out. */
export function encodeFloats(values: Float32Array, out: Uint8Array, at: number): void {
  out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 4 * at);
}

export function checkFloats(bytes: Uint8Array, from: number, to: number): SliceCheck {
  const values = floatsOf(bytes, from, to);
  const squaredNorm = squaredNormOf(values, 0, values.length);
  return Number.isFinite(squaredNorm) ? { squaredNorm } : { squaredNorm, problem: "nonFinite" };
}

/** total[i] += weight · x[i]. */
export function decodeAddFloats(
  bytes: Uint8Array,
  total: Float64Array,
  weight: number,
  from: number,
  to: number,
): void {
  const values = floatsOf(bytes, from, to);
  // from and to are multiples of 256, so four elements a turn leave no rest.
  for (let i = from, j = 0; i < to; i += 4, j += 4) {
    total[i]! += weight * values[j]!;
    total[i + 1]! += weight * values[j + 1]!;
    total[i + 2]! += weight * values[j + 2]!;
    total[i + 3]! += weight * values[j + 3]!;
  }
}

/** params[i] ← fround(params[i] + x[i]). */
export function decodeApplyFloats(bytes: Uint8Array, params: Float32Array, from: number, to: number): void {
  const values = floatsOf(bytes, from, to);
  for (let i = from, j = 0; i < to; i += 4, j += 4) {
    params[i]! += values[j]!;
    params[i + 1]! += values[j + 1]!;
    params[i + 2]! += values[j + 2]!;
    params[i + 3]! += values[j + 3]!;
  }
}

/** Elements [from, to): a view where the bytes lie on a multiple of four, else a copy. */
function floatsOf(bytes: Uint8Array, from: number, to: number): Float32Array {
  const offset = bytes.byteOffset + 4 * from;
  if (offset % 4 === 0) return new Float32Array(bytes.buffer, offset, to - from);
  // Not `slice`: that of a Node Buffer, which sockets hand out, does not copy.
  return new Float32Array(new Uint8Array(bytes.subarray(4 * from, 4 * to)).buffer);
}
