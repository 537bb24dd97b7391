import { expect, test } from "vitest";
import { normLimit, referenceOf, weigh } from "../../../coordinator/round/normGuard.ts";

test("a contribution within the limit counts whole, one above is refused or scaled down to an ordinary one", () => {
  const bounds = { limit: 10, confirmed: 0, clipTo: null };
  expect([weigh(bounds, 10), weigh(bounds, 10.01)]).toEqual([1, null]);
  expect(weigh({ ...bounds, clipTo: 4 }, 40)).toBe(0.1);
  // NaN is refused before; should it come here, it must not count.
  expect(weigh(bounds, NaN)).toBeNull();
});

test("what another worker confirmed passes, and not much more", () => {
  const bounds = { limit: 10, confirmed: 100, clipTo: null };
  expect([weigh(bounds, 101), weigh(bounds, 149), weigh(bounds, 151)]).toEqual([1, 1, null]);
});

test("a minority of contributions, however large, does not move the reference", () => {
  const honest = Array.from({ length: 5 }, (_, index) => ({ norm: 10 + index, tokens: 2 }));
  expect(referenceOf(honest)).toEqual({ perToken: 6, tokens: 2 });
  expect(referenceOf([...honest, { norm: 1e6, tokens: 2 }, { norm: 1e6, tokens: 2 }])?.perToken).toBe(6.5);
  expect(referenceOf([{ norm: 0, tokens: 2 }])).toBeNull();
});

test("fewer tokens may have a larger norm a token, as noise has; more tokens not a smaller limit a token", () => {
  const reference = { perToken: 2, tokens: 100 };
  expect(normLimit(reference, 100)).toBe(600);
  expect(normLimit(reference, 400)).toBe(2400);
  expect(normLimit(reference, 25)).toBe(300);
});
