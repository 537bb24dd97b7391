/** @file The seeds [from, to) as tests, in blocks: ten thousand tests of ten milliseconds would be mostly reporting. */
import { describe, expect, test } from "vitest";
import { reproduce, runSchedule } from "./schedule.ts";
import type { ScheduleReport } from "./schedule.ts";

const BLOCK = 125;

/** A block takes 2 s on a quiet core; a machine with ten other jobs may take its time. */
const BLOCK_MS = 180_000;

export function scheduleTests(from: number, to: number): void {
  const totals: { -readonly [K in keyof ScheduleReport]?: number } = {};
  describe("whatever goes wrong, every round is the undisturbed one's, every sample counts once, and nothing piles up", () => {
    for (let first = from; first < to; first += BLOCK) {
      const last = Math.min(first + BLOCK, to) - 1;
      test(
        `[I1] [I2] [I3] [I5] seeds ${first} to ${last}`,
        async () => {
          for (let seed = first; seed <= last; seed++) {
            const report = await runSchedule(seed).catch((error: unknown) => {
              throw new Error(`${String(error)}\nseed ${seed}; to see it again: ${reproduce(seed)}`, { cause: error });
            });
            for (const [what, value] of Object.entries(report) as [keyof ScheduleReport, number][]) totals[what] = (totals[what] ?? 0) + value; // prettier-ignore
          }
        },
        BLOCK_MS,
      );
    }
    test("every kind of fault did happen", () => {
      for (const kind of ["delay", "drop", "duplicate", "reorder", "corrupt", "restarts", "refused"] as const) {
        expect(totals[kind], kind).toBeGreaterThan((to - from) / 20);
      }
      expect(totals.rounds).toBeGreaterThan(4 * (to - from) - 1);
    });
  });
}
