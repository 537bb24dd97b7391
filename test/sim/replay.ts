/**
 * @file `npm run sim -- --seed N`: one schedule of faults again, exactly as the tests ran it, or a range of them.
 *
 *     npm run sim -- --seed 123 [--count 1] [--mutation NAME]
 */
import { parseArgs } from "node:util";
import { mutations } from "../support/sim/mutations.ts";
import { reproduce, runSchedule } from "../support/sim/schedule.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "0" },
    count: { type: "string", default: "1" },
    mutation: { type: "string" },
  },
});
const mutation = mutations.find(({ name }) => name === values.mutation)?.mutation;
if (values.mutation !== undefined && mutation === undefined) {
  process.stderr.write(
    `error: --mutation ${values.mutation}: must be one of ${mutations.map(({ name }) => name).join(", ")}\n`,
  );
  process.exit(2);
}
const [from, count] = [Number(values.seed), Number(values.count)];
let failed = 0;
const totals: Record<string, number> = {};
const startedMs = performance.now();
for (let seed = from; seed < from + count; seed++) {
  try {
    const report = await runSchedule(seed, mutation === undefined ? {} : { mutation });
    for (const [what, value] of Object.entries(report)) totals[what] = (totals[what] ?? 0) + value;
  } catch (error) {
    failed += 1;
    process.stdout.write(`seed ${seed}: ${String(error)}\n${count > 1 ? reproduce(seed) : (error as Error).stack}\n`);
  }
}
const seconds = (performance.now() - startedMs) / 1000;
process.stdout.write(`${count} schedules in ${seconds.toFixed(1)} s, ${failed} failed\n`);
for (const [what, value] of Object.entries(totals)) process.stdout.write(`  ${what} ${Math.round(value)}\n`);
if (failed > 0) process.exitCode = 1;
