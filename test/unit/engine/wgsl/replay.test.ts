import { expect, test } from "vitest";
import { SUBMIT_MS, submitEnd } from "../../../../shared/engine/wgsl/replay.ts";

/** Where each submit of a step ends. */
function submitEnds(dispatches: ReturnType<typeof dispatch>[], flopsPerMs: number): number[] {
  const ends: number[] = [];
  while ((ends.at(-1) ?? 0) < dispatches.length) ends.push(submitEnd(dispatches, ends.at(-1) ?? 0, flopsPerMs));
  return ends;
}

const dispatch = (flops: number) => ({ flops, bytes: 0 });

test("a device that does the step in time gets it as one submit", () => {
  expect(submitEnds([dispatch(10), dispatch(20)], 1)).toEqual([2]);
});

test("a slow device gets several, each below the bound but for a single long dispatch", () => {
  const most = SUBMIT_MS;
  expect(submitEnds([most / 2, most / 2, 1, 3 * most, 1].map(dispatch), 1)).toEqual([2, 3, 4, 5]);
});
