import { expect, test } from "vitest";
import { bucketLevel, fullBucket, takeTokens } from "../../../coordinator/edge/tokenBucket.ts";

const rate = { perSecond: 4, burst: 10 };

test("a burst at once, then what time refills, never more than the burst", () => {
  let bucket = takeTokens(fullBucket(rate, 1000), rate, 10, 1000);
  expect(bucket).not.toBeNull();
  expect(takeTokens(bucket!, rate, 1, 1249)).toBeNull();
  bucket = takeTokens(bucket!, rate, 1, 1250);
  expect(bucket).toEqual({ tokens: 0, atMs: 1250 });
  expect(bucketLevel(bucket!, rate, 2250)).toBe(4);
  expect(bucketLevel(bucket!, rate, 1e9)).toBe(10);
  expect(takeTokens(bucket!, rate, 11, 1e9)).toBeNull();
});

test("a clock that steps back refills nothing, then and later", () => {
  const empty = takeTokens(fullBucket(rate, 5000), rate, 10, 5000)!;
  expect(takeTokens(empty, rate, 1, 1000)).toBeNull();
  const taken = takeTokens(empty, rate, 0, 1000)!;
  expect(bucketLevel(taken, rate, 5250)).toBe(1);
});
