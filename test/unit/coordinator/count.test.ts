/** @file Whole numbers with commas. */
import { expect, test } from "vitest";
import { count } from "../../../coordinator/observe/count.ts";

test("three digits from the right go together", () => {
  expect([0, 999, 1000, 12_345.6, 1_234_567, -1234].map(count)).toEqual(["0", "999", "1,000", "12,346", "1,234,567", "-1,234"]); // prettier-ignore
});
