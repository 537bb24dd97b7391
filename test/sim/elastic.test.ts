import { describe, expect, test } from "vitest";
import { measureMix, mixes, randomMix } from "../support/elastic.ts";

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

/** The rest is latency, speeds that are still being learned, and the stalls' last copies. */
const LEAST_PART = 0.93;

describe.each([16, 64])("with %i units a round rounds end almost as soon as whole units allow", (units) => {
  test.each([0, 1, 2, 3, 4, 5])("fleet of seed %i", async (seed) => {
    for (const strict of [true, false]) {
      const { ratio, possible } = await measureMix(randomMix(seed), { units, steps: 16, strict });
      expect(ratio / possible, strict ? "strict" : "folded").toBeGreaterThanOrEqual(LEAST_PART);
      expect(ratio / possible).toBeLessThan(1.02);
    }
  });
});
