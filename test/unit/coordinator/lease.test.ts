import { expect, test } from "vitest";
import { leaseUnits, soonestEnd } from "../../../coordinator/round/lease.ts";

/** What each of `count` equal workers is offered first, of a round of so many units. */
function firstLease(units: number, count: number, unitMs: number, folds: boolean): number {
  const endMs = soonestEnd(
    units,
    Array.from({ length: count }, () => ({ unitMs, busyMs: 0 })),
  );
  return leaseUnits({ free: units, unitMs, busyMs: 0, endMs, folds }).units;
}

test("a contribution for each unit: half of a worker's share at a time", () => {
  expect(firstLease(64, 4, 100, false)).toBe(8);
  expect(firstLease(4, 4, 100, false)).toBe(1);
});

test("folded: a short share at once, of a long one three quarters, and again of what is left", () => {
  expect(firstLease(64, 4, 100, true)).toBe(16);
  expect(firstLease(256, 2, 100, true)).toBe(96);
  expect(firstLease(64, 2, 100, true)).toBe(32);
  // Whoever is a tenth slower than expected then delays the others by a tenth of the rest.
  expect(firstLease(256 - 2 * 96, 2, 100, true)).toBe(32);
});
