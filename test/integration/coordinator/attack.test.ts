import { expect, test } from "vitest";
import { trainUnderAttack } from "../../support/attack.ts";
import type { AttackedRun } from "../../support/attack.ts";

let honest: AttackedRun;

test("an honest run, to compare with: odd units, far above the others, are confirmed and count", async () => {
  honest = await trainUnderAttack({ factor: 1, guard: "refuse", steps: 40 });
  expect(honest.largestNorm).toBeGreaterThan(3);
  expect(honest.loss).toBeLessThan(3.3);
});

test.each([1000, -1000])(
  "1 of 8 workers sends its gradients times %i: refused, and θ is the honest run's to the bit",
  async (factor) => {
    const attacked = await trainUnderAttack({ factor, guard: "refuse", steps: 40 });
    expect(attacked.hash).toBe(honest.hash);
    expect(attacked.loss).toBe(honest.loss);
    expect(attacked.refusals["norm-outlier"]).toBeGreaterThan(0);
  },
);

test("clipped, it counts as an ordinary one, and pauses: the final loss stays within one percent", async () => {
  const attacked = await trainUnderAttack({ factor: -1000, guard: "clip", steps: 40 });
  expect(Math.abs(attacked.loss / honest.loss - 1)).toBeLessThan(0.01);
  expect(attacked.refusals["norm-clipped"]).toBeGreaterThan(0);
});

test("without a guard the same attack ruins the run: the tests above can fail", async () => {
  const attacked = await trainUnderAttack({ factor: -1000, guard: "off", steps: 40 });
  expect(attacked.loss / honest.loss).toBeGreaterThan(1.1);
});
