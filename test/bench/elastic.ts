/**
 * @file Workers of very different speeds: committed units per time against the sum of the workers' own speeds, in the simulator
 * (the real coordinator and sessions in virtual time), and against what whole units allow at best; `--random N` takes N random
 * mixes instead of the named ones.
 *
 *     npm run bench -- elastic [--steps 24] [--random 20]
 */
import { parseArgs } from "node:util";
import { measureMix, mixes, randomMix } from "../support/elastic.ts";

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: { steps: { type: "string", default: "24" }, random: { type: "string" } },
  });
  const steps = Number(flags.steps);
  process.stdout.write(
    "| workers | units a round | strict | throughput / sum of speeds | whole units allow | round |\n|---|---|---|---|---|---|\n",
  );
  const chosen = flags.random === undefined ? mixes : Array.from({ length: Number(flags.random) }, (_, seed) => randomMix(seed)); // prettier-ignore
  for (const mix of chosen) {
    for (const units of [16, 64, 256]) {
      for (const strict of [true, false]) {
        const { ratio, possible, roundMs } = await measureMix(mix, { units, steps, strict });
        process.stdout.write(`| ${mix.name} | ${units} | ${strict} | ${(100 * ratio).toFixed(1)} % | ${(100 * possible).toFixed(1)} % | ${(roundMs / 1000).toFixed(2)} s |\n`); // prettier-ignore
      }
    }
  }
}
