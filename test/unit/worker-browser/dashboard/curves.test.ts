import { expect, test } from "vitest";
import type { Curves } from "../../../../shared/wire/dashboard.ts";
import { append, appendAll, isBehind, pointsBetween } from "../../../../worker-browser/dashboard/curves.ts";

const none = { version: [], loss: [] };

/** Rounds from … to; every column tells its version. */
function rounds(from: number, to: number, newest = to): Curves {
  const version = Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
  const same = { version, atMs: version, loss: version, lossMin: version, lossMax: version, gradientNorm: version, gradientNormMin: version, gradientNormMax: version, learningRate: version, tokensPerSecond: version, bytesInPerSecond: version, bytesOutPerSecond: version, roundMs: version, computeMs: version, commitMs: version, workers: version }; // prettier-ignore
  return { from, to, span: 1, newest, ...same, evaluations: none };
}

test("live rounds make the curves longer, each column alike", () => {
  const longer = append(rounds(1, 3), rounds(4, 5), { version: [2], loss: [9] });
  expect(longer).toEqual({ ...rounds(1, 5), evaluations: { version: [2], loss: [9] } });
});

test("rounds that came with the curves already are not added a second time", () => {
  expect(append(rounds(1, 5), rounds(4, 7), none)?.version).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(append(rounds(1, 5), rounds(4, 5), none)?.version).toEqual([1, 2, 3, 4, 5]);
});

test("where rounds are missing in between the curves are fetched again", () => {
  expect(append(rounds(1, 5), rounds(7, 9), none)).toBeNull();
});

test("what came in several events is the same as one after the other, and none of it is shown where some is missing", () => {
  const news = [
    { curves: rounds(4, 5), evaluations: { version: [4], loss: [9] } },
    { curves: rounds(6, 6), evaluations: none },
    { curves: rounds(7, 9), evaluations: { version: [8], loss: [7] } },
  ];
  const [first, second, third] = news;
  expect(appendAll(rounds(1, 3), news)).toEqual({ ...rounds(1, 9), evaluations: { version: [4, 8], loss: [9, 7] } });
  expect(appendAll(rounds(1, 3), [])).toEqual(rounds(1, 3));
  expect(appendAll(rounds(1, 3), [first!, third!])).toBeNull();
  expect(appendAll(rounds(1, 5), [first!, second!])?.version).toEqual([1, 2, 3, 4, 5, 6]);
});

test("an evaluation without a round is taken in, once", () => {
  const evaluated = append(rounds(1, 5), { ...rounds(6, 5), newest: 5 }, { version: [4], loss: [2] })!;
  expect(evaluated.evaluations).toEqual({ version: [4], loss: [2] });
  expect(append(evaluated, { ...rounds(6, 5), newest: 5 }, { version: [4], loss: [2] })?.evaluations.version).toEqual([4]); // prettier-ignore
});

test("[I5] curves that would become longer than the bound are fetched again, downsampled", () => {
  let curves: Curves | null = rounds(1, 600);
  let version = 600;
  while (curves !== null && version < 5000) {
    expect(curves.version.length).toBeLessThanOrEqual(1200);
    curves = append(curves, rounds(version + 1, version + 50), none);
    version += 50;
  }
  expect(curves).toBeNull();
});

test("of a short run each round moves the curves, of a long one hundreds do not; another part is another picture", () => {
  expect(pointsBetween(rounds(1, 600), 601)).toBe(1);
  expect(pointsBetween(rounds(1, 600), 300)).toBeLessThan(-300);
  expect(pointsBetween({ ...rounds(1, 0), to: 999_400 }, 1_000_001)).toBeCloseTo(0.3606, 9);
  expect(isBehind(rounds(1, 100), rounds(1, 101))).toBe(true);
  const long = { ...rounds(1, 0), to: 1_000_000 };
  expect(isBehind(long, { ...long, to: 1_003_000 })).toBe(false);
  expect(isBehind(long, { ...long, to: 1_004_000 })).toBe(true);
  expect(isBehind(long, { ...long, from: 2 })).toBe(true);
  expect(isBehind(long, { ...long, to: 500_000 })).toBe(true);
});
