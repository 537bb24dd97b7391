import { expect, test } from "vitest";
import { learningRateAt, type Schedule } from "../../../shared/numerics/schedule.ts";

const cosine: Schedule = { kind: "cosine", learningRate: 1e-3, minLearningRate: 1e-4, warmupSteps: 100, totalSteps: 2000 }; // prettier-ignore
const wsd: Schedule = { kind: "wsd", learningRate: 1e-3, minLearningRate: 1e-4, warmupSteps: 100, totalSteps: 2000, decaySteps: 400 }; // prettier-ignore

test("warm-up is linear and never zero", () => {
  for (const schedule of [cosine, wsd]) {
    expect(learningRateAt(schedule, 0)).toBeCloseTo(1e-3 / 101, 12);
    expect(learningRateAt(schedule, 49)).toBeCloseTo((1e-3 * 50) / 101, 12);
    expect(learningRateAt(schedule, 100)).toBe(1e-3);
  }
});

test("cosine: a quarter, a half and the end of the way", () => {
  expect(learningRateAt(cosine, 100 + 475)).toBeCloseTo(1e-4 + 9e-4 * 0.8535533905932737, 12);
  expect(learningRateAt(cosine, 100 + 950)).toBeCloseTo(5.5e-4, 12);
  expect(learningRateAt(cosine, 2000)).toBe(1e-4);
  expect(learningRateAt(cosine, 5000)).toBe(1e-4);
});

test("wsd: constant, then one minus a square root", () => {
  expect(learningRateAt(wsd, 1599)).toBe(1e-3);
  expect(learningRateAt(wsd, 1600)).toBe(1e-3);
  expect(learningRateAt(wsd, 1700)).toBeCloseTo(5.5e-4, 12);
  expect(learningRateAt(wsd, 2000)).toBe(1e-4);
});

test("wsd without an end stays at the peak", () => {
  expect(learningRateAt({ ...wsd, totalSteps: Infinity }, 1e9)).toBe(1e-3);
});

test("a negative or fractional step is refused", () => {
  expect(() => learningRateAt(cosine, -1)).toThrow("-1");
  expect(() => learningRateAt(cosine, 0.5)).toThrow("0.5");
});
