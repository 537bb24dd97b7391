/**
 * @file The 64-bit hash of parameters that travels with results: two workers agree on θ exactly when their bits do.
 *
 * It finds differences that come from faults, not from an adversary who constructs collisions.
 */

import { chunkBounds, chunkCount } from "./chunks.ts";
import { mix32 } from "./rng.ts";

/** Odd multipliers of xxHash32 and MurmurHash3: bijective on uint32, bits well spread. */
export const MULTIPLIER_A = 0x9e3779b1;
export const MULTIPLIER_B = 0xc2b2ae3d;

/** (a, b) of the two stripes. */
export type HashLanes = readonly [a0: number, b0: number, a1: number, b1: number];

/** What a chunk's lanes begin with: digits of π. */
export const FIRST_LANES: HashLanes = [0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344];

/**
 * Hash of bits[from, to) as two uint32, written to out[at] and out[at + 1]. Mutates out.
 *
 * Elements are taken in pairs (x, y), even and odd pairs in separate stripes (independent dependency chains), each with
 * two lanes of 32 bits:
 *
 *     a ← rotl((a ⊕ x)·M_a, 13) + y ;  b ← rotl((b ⊕ y)·M_b, 17) + x
 *
 * Each step is a bijection of the lane for given x and y, and of either element for a given lane: one changed element
 * always changes 64 bits of state. A last group of fewer than four is filled up with zeros; the length tells it apart.
 */
export function hashChunk(bits: Uint32Array, from: number, to: number, out: Uint32Array, at: number): void {
  let [a0, b0, a1, b1] = FIRST_LANES;
  const whole = from + ((to - from) & ~3);
  for (let i = from; i < whole; i += 4) {
    const x0 = bits[i]!;
    const y0 = bits[i + 1]!;
    const x1 = bits[i + 2]!;
    const y1 = bits[i + 3]!;
    a0 = Math.imul(a0 ^ x0, MULTIPLIER_A);
    b0 = Math.imul(b0 ^ y0, MULTIPLIER_B);
    a1 = Math.imul(a1 ^ x1, MULTIPLIER_A);
    b1 = Math.imul(b1 ^ y1, MULTIPLIER_B);
    a0 = (((a0 << 13) | (a0 >>> 19)) + y0) | 0;
    b0 = (((b0 << 17) | (b0 >>> 15)) + x0) | 0;
    a1 = (((a1 << 13) | (a1 >>> 19)) + y1) | 0;
    b1 = (((b1 << 17) | (b1 >>> 15)) + x1) | 0;
  }
  if (whole < to) {
    const x0 = bits[whole]!;
    const y0 = whole + 1 < to ? bits[whole + 1]! : 0;
    const x1 = whole + 2 < to ? bits[whole + 2]! : 0;
    a0 = Math.imul(a0 ^ x0, MULTIPLIER_A);
    b0 = Math.imul(b0 ^ y0, MULTIPLIER_B);
    a1 = Math.imul(a1 ^ x1, MULTIPLIER_A);
    b1 = Math.imul(b1, MULTIPLIER_B);
    a0 = (((a0 << 13) | (a0 >>> 19)) + y0) | 0;
    b0 = (((b0 << 17) | (b0 >>> 15)) + x0) | 0;
    a1 = (a1 << 13) | (a1 >>> 19);
    b1 = (((b1 << 17) | (b1 >>> 15)) + x1) | 0;
  }
  finishChunk([a0, b0, a1, b1], to - from, out, at);
}

/** The hash of a chunk of `count` elements from its lanes at the end, to out[at] and out[at + 1]. Mutates out. */
export function finishChunk([a0, b0, a1, b1]: HashLanes, count: number, out: Uint32Array, at: number): void {
  out[at] = mix32(mix32(a0 ^ count) + a1);
  out[at + 1] = mix32(mix32(b0 + count) ^ b1);
}

/**
 * Folds the chunk hashes (pairs, in chunk order) and the number of elements to 16 hexadecimal digits.
 *
 * @throws RangeError when there are not as many pairs as `length` elements have chunks.
 */
export function combineHashes(chunkHashes: Uint32Array, length: number): string {
  if (chunkHashes.length !== 2 * chunkCount(length)) {
    throw new RangeError(`${chunkHashes.length / 2} chunk hashes for ${chunkCount(length)} chunks`);
  }
  let a = mix32(length);
  let b = mix32(length ^ 0xa4093822);
  for (let i = 0; i < chunkHashes.length; i += 2) {
    a = mix32(Math.imul(a, MULTIPLIER_A) + chunkHashes[i]!);
    b = mix32(Math.imul(b, MULTIPLIER_B) + chunkHashes[i + 1]!);
  }
  return a.toString(16).padStart(8, "0") + b.toString(16).padStart(8, "0");
}

/**
 * 64-bit hash of the bits of params [P] f32 (so +0 and −0 differ, and NaNs by payload): chunks of 65,536 elements hashed
 * apart and combined in order, hence the same for any number of threads. 16 hexadecimal digits.
 */
export function hashParams(params: Float32Array): string {
  const bits = new Uint32Array(params.buffer, params.byteOffset, params.length);
  const hashes = new Uint32Array(2 * chunkCount(params.length));
  for (let chunk = 0; chunk < chunkCount(params.length); chunk++) {
    const { from, to } = chunkBounds(chunk, params.length);
    hashChunk(bits, from, to, hashes, 2 * chunk);
  }
  return combineHashes(hashes, params.length);
}
