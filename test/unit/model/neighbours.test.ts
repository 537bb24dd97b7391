import { expect, test } from "vitest";
import { analogy, nearestTokens } from "../../../shared/model/neighbours.ts";

/** Rows of two features: sex and rank, with lengths that must not matter. */
const rows = [
  [1, 0], // 0 man
  [-3, 0], // 1 woman
  [2, 2], // 2 king
  [-0.5, 0.5], // 3 queen
  [0, -1], // 4 beggar
  [0, 0], // 5 never seen
] as const;
const embedding = { values: Float32Array.from(rows.flat()), width: 2 };

test("neighbours are those that point the same way, nearest first, however long", () => {
  const found = nearestTokens(embedding, 0, 3);
  expect(found.map(({ token }) => token)).toEqual([2, 4, 5]);
  expect(found[0]?.similarity).toBeCloseTo(Math.SQRT1_2, 6);
  expect(nearestTokens(embedding, 1, 1)[0]?.token).toBe(3);
});

test("woman is to man as … is to king", () => {
  const [first] = analogy(embedding, { a: 0, b: 1, c: 2 }, 2);
  expect(first?.token).toBe(3);
  // unit(b) − unit(a) + unit(c) = (−2 + 0.707, 0.707) against (−0.707, 0.707)
  const wanted = [-2 + Math.SQRT1_2, Math.SQRT1_2] as const;
  expect(first?.similarity).toBeCloseTo((Math.SQRT1_2 * (wanted[1] - wanted[0])) / Math.hypot(...wanted), 6);
  expect(analogy(embedding, { a: 0, b: 1, c: 2 }, 10).map(({ token }) => token)).not.toContain(2);
});

test("a token that is not there is refused", () => {
  expect(() => nearestTokens(embedding, 6, 1)).toThrow("no token 6");
});
