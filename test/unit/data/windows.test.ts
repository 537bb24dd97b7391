import { expect, test } from "vitest";
import { evaluationOffset, evaluationWindows, sampleOrder, windowsIn } from "../../../shared/data/windows.ts";

test("counts the windows that overlap in one token: tinyshakespeare's validation split has 1742 of 64", () => {
  expect(windowsIn(111_540, 64)).toBe(1742);
  expect(windowsIn(129, 64)).toBe(2);
  expect(windowsIn(128, 64)).toBe(1);
  expect(windowsIn(64, 64)).toBe(0);
  expect(windowsIn(0, 64)).toBe(0);
});

test("epochs are ordered differently, and seeds too", () => {
  const options = { tokens: 6401, context: 64, sampling: "shuffled" } as const;
  const epoch = (seed: number, number: number): number[] => {
    const order = sampleOrder({ ...options, seed });
    return Array.from({ length: 100 }, (_, i) => order.offsetOf(number * order.samplesPerEpoch + i));
  };
  expect(epoch(1, 0)).not.toEqual(epoch(1, 1));
  expect(epoch(1, 0)).not.toEqual(epoch(2, 0));
  expect(epoch(1, 0)).toEqual(epoch(1, 0));
  expect(epoch(1, 0)).not.toEqual(epoch(1, 0).toSorted((a, b) => a - b));
});

test("random offsets reach every start of a window, the first and the last, about equally often", () => {
  const order = sampleOrder({ tokens: 20, context: 10, seed: 3, sampling: "random" });
  const counts = new Map<number, number>();
  for (let position = 0; position < 10_000; position++) {
    const offset = order.offsetOf(position);
    counts.set(offset, (counts.get(offset) ?? 0) + 1);
  }
  expect([...counts.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  // 1000 expected each, standard deviation 30: five of them.
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

test("evaluation windows are all of them in order, or spread over the whole split", () => {
  const split = { tokens: 641, context: 64 };
  const offsets = (samples: number): number[] =>
    Array.from({ length: samples }, (_, i) => evaluationOffset({ ...split, samples }, i));
  expect(evaluationWindows(641, 64, "all")).toBe(10);
  expect(evaluationWindows(641, 64, 200)).toBe(10);
  expect(evaluationWindows(641, 64, 4)).toBe(4);
  expect(offsets(10)).toEqual([0, 64, 128, 192, 256, 320, 384, 448, 512, 576]);
  expect(offsets(4)).toEqual([0, 2 * 64, 5 * 64, 7 * 64]);
  expect(() => evaluationOffset({ ...split, samples: 4 }, 4)).toThrow(/4 of 4/);
  expect(() => evaluationOffset({ ...split, samples: 11 }, 0)).toThrow(/the split has 10/);
});

test("a split shorter than a window is refused with both numbers", () => {
  for (const sampling of ["shuffled", "random"] as const)
    expect(() => sampleOrder({ tokens: 64, context: 64, seed: 1, sampling })).toThrow(/64 tokens.*65/);
});
