import { describe, expect, test } from "vitest";
import { mutations } from "../support/sim/mutations.ts";
import { runSchedule } from "../support/sim/schedule.ts";
import { Violation } from "../support/sim/violation.ts";

/** Seeds that a planted bug may survive. */
const MAX_SEEDS = 120;

describe("a planted bug is caught, by the invariant that it breaks", () => {
  test.each(mutations)("[$breaks] $name", async ({ breaks, mutation }) => {
    for (let seed = 0; seed < MAX_SEEDS; seed++) {
      const violation = await runSchedule(seed, { mutation }).then(
        () => null,
        (error: unknown) => error,
      );
      if (violation === null) continue;
      if (!(violation instanceof Violation)) throw violation;
      expect(violation.id, `seed ${seed}: ${violation.message}`).toBe(breaks);
      return;
    }
    expect.fail(`not caught by ${MAX_SEEDS} seeds`);
  });
});
