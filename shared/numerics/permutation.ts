/** @file The order of samples in an epoch: a permutation of 0 … n−1 in O(1) memory, computable in both directions. */

import { mix32, streamKey } from "./rng.ts";

export type Permutation = {
  /** n: permutes 0 … n−1. */
  readonly size: number;
  /** π(index). @throws RangeError when index is not an integer in [0, n). */
  forward(index: number): number;
  /** π⁻¹(value). @throws RangeError when value is not an integer in [0, n). */
  inverse(value: number): number;
};

/** Six rounds: Luby–Rackoff needs four for a pseudo-random permutation; two more because the halves may be a few bits. */
const ROUNDS = 6;

/**
 * π_{seed,epoch} on 0 … n−1: a balanced Feistel network over the smallest even number of bits that holds n values, with
 * mix32 as the round function and a key per round; a value that falls outside [0, n) is mapped again until it falls
 * inside ("cycle walking", fewer than four times on average). Bijective for every n. Source: docs/numerics.md §5; Black
 * & Rogaway 2002, ciphers with arbitrary finite domains.
 *
 * @throws RangeError unless 1 ≤ n ≤ 2³².
 */
export function createPermutation({ size, seed, epoch }: { size: number; seed: number; epoch: number }): Permutation {
  if (!Number.isInteger(size) || size < 1 || size > 2 ** 32) {
    throw new RangeError(`permutation of ${size} values, allowed are 1 to 2^32`);
  }
  let halfBits = 1;
  while (4 ** halfBits < size) halfBits++;
  const halfSize = 2 ** halfBits;
  const mask = halfSize - 1;
  const keys = Array.from({ length: ROUNDS }, (_, round) => streamKey(seed, epoch, round));

  const encrypt = (value: number): number => {
    let left = Math.floor(value / halfSize);
    let right = value & mask;
    for (const key of keys) [left, right] = [right, left ^ (mix32(right ^ key) & mask)];
    return left * halfSize + right;
  };
  const decrypt = (value: number): number => {
    let left = Math.floor(value / halfSize);
    let right = value & mask;
    for (const key of keys.toReversed()) [left, right] = [right ^ (mix32(left ^ key) & mask), left];
    return left * halfSize + right;
  };
  const walk = (start: number, next: (value: number) => number): number => {
    if (!Number.isInteger(start) || start < 0 || start >= size) {
      throw new RangeError(`position ${start} in a permutation of ${size}`);
    }
    let value = next(start);
    while (value >= size) value = next(value);
    return value;
  };
  return { size, forward: (index) => walk(index, encrypt), inverse: (value) => walk(value, decrypt) };
}
