import * as fc from "fast-check";
import { expect, test } from "vitest";
import { createPermutation } from "../../../shared/numerics/permutation.ts";

test("[I2] a permutation of any size visits every sample once, and its inverse finds the way back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer(), fc.nat(1000), (size, seed, epoch) => {
      const order = createPermutation({ size, seed, epoch });
      const seen = new Uint8Array(size);
      for (let i = 0; i < size; i++) {
        const value = order.forward(i);
        seen[value]! += 1;
        expect(order.inverse(value)).toBe(i);
      }
      expect(seen.every((count) => count === 1)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test("forward and inverse agree for sizes up to 2^32", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 32 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer(),
      (size, part, seed) => {
        // prettier-ignore
        const index = Math.min(size - 1, Math.floor(part * size));
        const order = createPermutation({ size, seed, epoch: 0 });
        const value = order.forward(index);
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThan(size);
        expect(order.inverse(value)).toBe(index);
      },
    ),
  );
});

test("seeds and epochs give different orders that look shuffled", () => {
  const size = 5000;
  const list = (seed: number, epoch: number) => {
    const order = createPermutation({ size, seed, epoch });
    return Array.from({ length: size }, (_, i) => order.forward(i));
  };
  const base = list(1, 0);
  for (const other of [list(1, 1), list(2, 0)]) {
    // Two independent permutations agree in one place on average (Poisson with mean 1).
    expect(base.filter((value, i) => value === other[i]).length).toBeLessThan(8);
  }
  // Correlation of position and value: standard deviation 1/√n = 0.014 for a random order.
  const mean = (size - 1) / 2;
  const covariance = base.reduce((sum, value, i) => sum + (value - mean) * (i - mean), 0) / size;
  expect(Math.abs(covariance / ((size * size - 1) / 12))).toBeLessThan(0.06);
  // Neighbours stay neighbours about twice in n pairs.
  expect(base.filter((value, i) => i > 0 && Math.abs(value - base[i - 1]!) === 1).length).toBeLessThan(12);
});

test("sizes and positions out of range are refused", () => {
  for (const size of [0, -1, 1.5, 2 ** 32 + 1]) {
    expect(() => createPermutation({ size, seed: 0, epoch: 0 })).toThrow(`permutation of ${size} values`);
  }
  const order = createPermutation({ size: 10, seed: 0, epoch: 0 });
  for (const index of [-1, 10, 0.5, NaN]) {
    expect(() => order.forward(index)).toThrow(RangeError);
    expect(() => order.inverse(index)).toThrow(RangeError);
  }
});
