/**
 * @file What one hostile worker of eight does to a run: final validation loss against that of an honest run, with and without the
 * guard, for gradients scaled and turned round.
 *
 *     npm run bench -- attack [--steps 200]
 */
import { parseArgs } from "node:util";
import { trainUnderAttack } from "../support/attack.ts";
import type { AttackedRun } from "../support/attack.ts";

const attacks = [
  { factor: 1, guard: "refuse" },
  { factor: 1000, guard: "refuse" },
  { factor: -1000, guard: "refuse" },
  { factor: -1, guard: "refuse" },
  { factor: -2.5, guard: "refuse" },
  { factor: 1000, guard: "clip" },
  { factor: -1000, guard: "clip" },
  { factor: 1000, guard: "off" },
  { factor: -1000, guard: "off" },
] as const;

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({ args: [...args], options: { steps: { type: "string", default: "200" } } });
  const steps = Number(flags.steps);
  process.stdout.write(`1 of 8 workers multiplies its gradients; ${steps} steps, 1 layer of width 32, strict f32\n\n`);
  process.stdout.write(
    "| factor | guard | final loss | against honest | θ | refused or clipped | largest norm / median |\n",
  );
  process.stdout.write("|---|---|---|---|---|---|---|\n");
  let honest: AttackedRun | null = null;
  for (const { factor, guard } of attacks) {
    const attacked = await trainUnderAttack({ factor, guard, steps });
    honest ??= attacked;
    const change = ((attacked.loss / honest.loss - 1) * 100).toFixed(2);
    const same = attacked.hash === honest.hash ? "equal" : "differs";
    const refused = (attacked.refusals["norm-outlier"] ?? 0) + (attacked.refusals["norm-clipped"] ?? 0);
    process.stdout.write(`| ${factor} | ${guard} | ${attacked.loss.toFixed(4)} | ${change} % | ${same} | ${refused} | ${attacked.largestNorm.toFixed(2)} |\n`); // prettier-ignore
  }
}
