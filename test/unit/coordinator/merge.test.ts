import { expect, test } from "vitest";
import {
  mergeComplete,
  startMerge,
  takePart,
  type MergeState,
  type Part,
} from "../../../coordinator/optimizer/merge.ts";

function take(state: MergeState<Part>, firstUnit: number, units: number, maxWaiting = 10) {
  return takePart(state, { firstUnit, units }, maxWaiting);
}

test("a part whose turn it is is added at once, others wait for it and follow in order", () => {
  let state = startMerge(6);
  const later = take(state, 4, 2);
  expect(later).toMatchObject({ add: [], reason: "units 4 to 5 wait for unit 0" });
  state = later.state;
  const middle = take(state, 1, 3);
  expect(middle).toMatchObject({ add: [] });
  state = middle.state;
  expect(mergeComplete(state)).toBe(false);
  const first = take(state, 0, 1);
  expect(first).toMatchObject({
    add: [
      { firstUnit: 0, units: 1 },
      { firstUnit: 1, units: 3 },
      { firstUnit: 4, units: 2 },
    ],
    state: { next: 6, waiting: [] },
  });
  expect(mergeComplete(first.state)).toBe(true);
});

test("what is in the sum, or waits to be, is not taken twice, not even in part", () => {
  let state = take(startMerge(10), 0, 3).state;
  state = take(state, 5, 2).state;
  for (const [firstUnit, units] of [
    [0, 3],
    [2, 1],
    [2, 2],
    [5, 2],
    [4, 2],
    [6, 3],
    [3, 7],
  ] as const) {
    // prettier-ignore
    const decision = take(state, firstUnit, units);
    expect(decision).toMatchObject({ refused: "overlap" });
    expect(decision.state).toBe(state);
  }
  expect(take(state, 3, 2)).toMatchObject({ state: { next: 7 } });
});

test("units that the round has not are refused", () => {
  for (const [firstUnit, units] of [
    [-1, 1],
    [0, 0],
    [4, 2],
    [5, 1],
    [0.5, 1],
    [0, NaN],
    [0, Infinity],
  ] as const) {
    // prettier-ignore
    expect(take(startMerge(5), firstUnit, units)).toMatchObject({ refused: "out-of-range" });
  }
  expect(() => startMerge(0)).toThrow("a round of 0 units");
});

test("[I5] waiting parts are bounded, but the one whose turn it is is always taken", () => {
  let state = take(startMerge(10), 2, 1, 2).state;
  state = take(state, 4, 1, 2).state;
  expect(take(state, 6, 1, 2)).toMatchObject({ refused: "too-many-waiting" });
  expect(take(state, 0, 2, 2)).toMatchObject({ state: { next: 3 } });
});
