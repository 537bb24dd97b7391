import { describe, expect, test } from "vitest";
import { measureMix, mixes } from "../support/elastic.ts";

/** Of the sum of the workers' own speeds, with eight units a worker in a round. */
const LEAST_RATIO = 0.85;

describe.each([true, false])(
  "with 64 units a round, strict: %s, workers bring at least 85 %% of their own speeds",
  (strict) => {
    test.each(mixes.map((mix) => [mix.name, mix] as const))("%s", async (_, mix) => {
      const { ratio } = await measureMix(mix, { units: 64, steps: 20, strict });
      expect(ratio).toBeGreaterThanOrEqual(LEAST_RATIO);
      // More than all of them together would mean that the measurement is wrong.
      expect(ratio).toBeLessThan(1.02);
    });
  },
);
