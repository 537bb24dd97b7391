/**
 * @file Workers of very different speeds: committed units per time against the sum of the workers' own speeds, in the simulator
 * (the real coordinator and sessions in virtual time).
 *
 *     npm run bench -- elastic [--steps 24]
 */
import { parseArgs } from "node:util";
import { measureMix, mixes } from "../support/elastic.ts";

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({ args: [...args], options: { steps: { type: "string", default: "24" } } });
  const steps = Number(flags.steps);
  process.stdout.write(
    "| workers | units a round | strict | throughput / sum of speeds | round |\n|---|---|---|---|---|\n",
  );
  for (const mix of mixes) {
    for (const units of [16, 64, 256]) {
      for (const strict of [true, false]) {
        const { ratio, roundMs } = await measureMix(mix, { units, steps, strict });
        process.stdout.write(`| ${mix.name} | ${units} | ${strict} | ${(100 * ratio).toFixed(1)} % | ${(roundMs / 1000).toFixed(2)} s |\n`); // prettier-ignore
      }
    }
  }
}
