import { expect, test } from "vitest";
import { dropoutMasks } from "../../../shared/model/dropoutMask.ts";

const sites = [
  { name: "a", shape: [40, 50] },
  { name: "b", shape: [40, 50] },
];

test("drops the given fraction and scales the rest up, so that the mean is 1", () => {
  const mask = dropoutMasks(sites, 0.25, { seed: 1, step: 2, samples: [3, 4, 5] }).get("a") as Float32Array;
  expect(mask.length).toBe(3 * 2000);
  expect(new Set(mask)).toEqual(new Set([0, Math.fround(4 / 3)]));
  expect(mask.reduce((a, b) => a + b, 0) / mask.length).toBeCloseTo(1, 1);
});

test("a sample's mask does not depend on which samples share its batch", () => {
  const together = dropoutMasks(sites, 0.5, { seed: 1, step: 2, samples: [9, 4] }).get("b");
  const alone = dropoutMasks(sites, 0.5, { seed: 1, step: 2, samples: [4] }).get("b");
  expect(together?.subarray(2000)).toEqual(alone);
});

test("seed, step, sample and site each change the mask", () => {
  const masks = [
    maskBits(1, 2, 3, "a"),
    maskBits(2, 2, 3, "a"),
    maskBits(1, 3, 3, "a"),
    maskBits(1, 2, 4, "a"),
    maskBits(1, 2, 3, "b"),
  ];
  expect(new Set(masks).size).toBe(5);
});

function maskBits(seed: number, step: number, sample: number, site: string): string {
  return String(
    dropoutMasks(sites, 0.5, { seed, step, samples: [sample] })
      .get(site)
      ?.subarray(0, 64),
  );
}
