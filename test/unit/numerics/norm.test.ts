import { expect, test } from "vitest";
import { clipScale, hasNonFinite, squaredNorm, squaredNormOf } from "../../../shared/numerics/norm.ts";
import { randomNormal } from "../../../shared/numerics/rng.ts";
import { addScaled, roundScaled, subtract } from "../../../shared/numerics/sum.ts";

test("the squared norm agrees with a plain sum and covers short tails", () => {
  const values = Float32Array.from({ length: 70_003 }, (_, i) => randomNormal(3, i));
  const plain = values.reduce((sum, x) => sum + x * x, 0);
  expect(Math.abs(squaredNorm(values) / plain - 1)).toBeLessThan(1e-12);
  for (const to of [0, 1, 2, 3, 4, 5, 6, 7]) {
    const expected = values.slice(1, 1 + to).reduce((sum, x) => sum + x * x, 0);
    expect(squaredNormOf(values, 1, 1 + to)).toBeCloseTo(expected, 10);
  }
});

test("one NaN or infinity in any lane is seen; the largest finite values are not mistaken for it", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    for (let i = 0; i < 9; i++) {
      const values = new Float32Array(9);
      values[i] = bad;
      expect(hasNonFinite(values)).toBe(true);
    }
  }
  expect(hasNonFinite(new Float32Array(1000).fill(3.4e38))).toBe(false);
});

test("clipping brings a long vector to the limit and leaves a short one", () => {
  expect(clipScale(4, 1)).toBeCloseTo(0.25, 6);
  expect(clipScale(0.5, 1)).toBe(1);
  expect(clipScale(1e9, 0)).toBe(1);
});

test("sums: weight, slice, rounding to f32 and difference", () => {
  const total = new Float64Array([1, 2, 3]);
  addScaled(total, new Float32Array([0.1, 10, 100]), 3, 1, 3);
  expect([...total]).toEqual([1, 32, 303]);
  const out = new Float32Array(3);
  roundScaled(out, new Float64Array([1, 0.3, -7]), 1 / 3);
  expect([...out]).toEqual([1 / 3, 0.1, -7 / 3].map(Math.fround));
  const difference = new Float32Array(2);
  subtract(difference, new Float32Array([5, 7, 9]), new Float32Array([1, 2, 8]), 1);
  expect([...difference]).toEqual([5, 1]);
  expect(() => addScaled(total, new Float32Array(2), 1)).toThrow("adding 2 values to a total of 3");
  expect(() => roundScaled(new Float32Array(2), total, 1)).toThrow("3 sums into 2");
});
