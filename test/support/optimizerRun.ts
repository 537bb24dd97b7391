/**
 * @file A run of the optimizer alone: rounds of made-up contributions, each a function of its version only, so that two runs
 * may be compared bit by bit. As a script (`node optimizerRun.ts DIR COMMITTED ROUNDS`) it is a process to be killed.
 */

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { argv, stdout } from "node:process";
import { openOptimizer, type Optimizer, type OptimizerOptions } from "../../coordinator/optimizer/optimize.ts";
import { encoded } from "../../shared/codec/codec.ts";
import { randomParams, smallLayout } from "./smallModel.ts";

export const optimizerOptions: Omit<OptimizerOptions, "dir" | "until"> = {
  layout: smallLayout,
  codec: "i8",
  optimizer: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 },
  threads: 2,
  units: 3,
  maxWaiting: 3,
  initial: () => randomParams(smallLayout, 1, 0.02),
  metadata: { run: "test" },
  keep: 2,
  sync: false,
};

/** One round: contributions, then the step. */
export async function runRound(optimizer: Optimizer): Promise<string> {
  await contribute(optimizer);
  return stepRound(optimizer);
}

/** Three contributions in an order that depends on the version. */
export async function contribute(optimizer: Optimizer): Promise<void> {
  const version = optimizer.version() + 1;
  for (let k = 0; k < 3; k++) {
    const firstUnit = (k * 2 + version) % 3;
    const payload = encoded("i8", randomParams(smallLayout, 100 * version + firstUnit, 1));
    const received = await optimizer.receive({ firstUnit, units: 1, payload });
    if (!received.ok) throw new Error(received.reason);
  }
}

export async function stepRound(optimizer: Optimizer): Promise<string> {
  const version = optimizer.version() + 1;
  const step = await optimizer.step({ version, tokens: 700 + version, learningRate: 1e-3 / version });
  if (!step.applied) throw new Error("not applied");
  return step.hash;
}

/** Lines `version hash`: this process's ledger. */
export function committedRounds(ledger: string): { version: number; hash: string }[] {
  if (!existsSync(ledger)) return [];
  const lines = readFileSync(ledger, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => ({ version: Number(line.split(" ")[0]), hash: line.split(" ")[1] ?? "" }));
}

if (argv[1] === import.meta.filename) {
  const [dir, ledger, rounds] = argv.slice(2) as [string, string, string];
  const until = committedRounds(ledger).at(-1)?.version ?? 0;
  const { optimizer } = await openOptimizer({ ...optimizerOptions, dir, until });
  while (optimizer.version() < Number(rounds)) {
    const hash = await runRound(optimizer);
    appendFileSync(ledger, `${optimizer.version()} ${hash}\n`);
    stdout.write(`${optimizer.version()}\n`);
    if (optimizer.version() % 4 === 0) void optimizer.snapshot();
  }
  await optimizer.close();
}
