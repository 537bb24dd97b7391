import { expect, test } from "vitest";
import { createAddressCounts, createAddressRates } from "../../../coordinator/edge/addressLimits.ts";

test("each address has its own places, and nothing is kept of one that left", () => {
  const counts = createAddressCounts(2);
  expect([counts.enter("a"), counts.enter("a"), counts.enter("a"), counts.enter("b")]).toEqual([
    true,
    true,
    false,
    true,
  ]);
  counts.leave("a");
  expect(counts.enter("a")).toBe(true);
  for (const address of ["a", "a", "b"]) counts.leave(address);
  expect([counts.of("a"), counts.of("b")]).toEqual([0, 0]);
});

test("each address has its own rate, and is told when to come back", () => {
  const rates = createAddressRates({ perSecond: 2, burst: 3 });
  expect([1, 2, 3, 4].map(() => rates.take("a", 1, 0))).toEqual([true, true, true, false]);
  expect(rates.take("b", 1, 0)).toBe(true);
  expect(rates.waitMs("a", 1, 0)).toBe(500);
  expect(rates.waitMs("stranger", 1, 0)).toBe(0);
  expect(rates.take("a", 1, 499)).toBe(false);
  expect(rates.take("a", 1, 500)).toBe(true);
});

test("[I5] a million addresses take the room of a few, and the busy one stays known", () => {
  const rates = createAddressRates({ perSecond: 1, burst: 1 }, 100);
  expect(rates.take("busy", 1, 0)).toBe(true);
  for (let index = 0; index < 1_000_000; index++) {
    rates.take(`address ${index}`, 1, 0);
    if (index % 50 === 0) expect(rates.take("busy", 1, 0)).toBe(false);
  }
  expect(rates.size()).toBe(100);
});
