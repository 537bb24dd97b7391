/**
 * @file What it costs a round to be on the disk before it is published: the optimizer's step and the ledger's commit, with
 * syncs and without, in turns in one process. `npm run bench -- durability [parameters] [rounds] [folder]`; the default is
 * the size of preset `tiny`, in the folder for temporary files (which must be on the disk that is meant).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { openLedger } from "../../coordinator/store/ledger.ts";
import type { Ledger, RoundRow } from "../../coordinator/store/ledger.ts";
import { openOptimizer } from "../../coordinator/optimizer/optimize.ts";
import type { Optimizer } from "../../coordinator/optimizer/optimize.ts";
import { encoded } from "../../shared/codec/codec.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { randomNormal } from "../../shared/numerics/rng.ts";

const WARM_UP = 5;
/** Of a round, each one contribution. */
const UNITS = 8;

type Side = { readonly name: string; readonly optimizer: Optimizer; readonly ledger: Ledger; readonly step: number[]; readonly commit: number[] }; // prettier-ignore

export async function run(args: readonly string[]): Promise<void> {
  const parameters = Number(args[0] ?? 811_008);
  const rounds = Number(args[1] ?? 100);
  if (!Number.isInteger(parameters) || parameters < 256) throw new RangeError(`parameters "${args[0]}", at least 256`);
  if (!Number.isInteger(rounds) || rounds < 10) throw new RangeError(`rounds "${args[1]}", at least 10`);
  const layout = layoutOf([{ name: "all", shape: [Math.ceil(parameters / 256), 256] }]);
  const values = Float32Array.from({ length: layout.length }, (_, i) => randomNormal(2, i));
  const payload = encoded("f32", values);
  const folder = await mkdtemp(join(args[2] ?? tmpdir(), "bench-durability-"));

  const open = async (name: string, sync: boolean): Promise<Side> => {
    const { optimizer } = await openOptimizer({
      dir: join(folder, name),
      layout,
      codec: "f32",
      optimizer: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 },
      threads: Math.min(8, availableParallelism()),
      units: UNITS,
      maxWaiting: UNITS,
      initial: () => values.map((value) => 0.02 * value),
      until: 0,
      metadata: {},
      keep: 2,
      sync,
    });
    const ledger = openLedger(join(folder, `${name}.sqlite`), { sync });
    return { name, optimizer, ledger, step: [], commit: [] };
  };
  const sides = [await open("page cache only", false), await open("synced", true)];
  for (let index = 0; index < WARM_UP + rounds; index++) {
    // In turns, and the first alternates: whatever else the machine does, it does to both.
    for (const side of index % 2 === 0 ? sides : [...sides].reverse()) await oneRound(side, payload);
  }
  console.log(`${layout.length} parameters, f32, ${UNITS} contributions a round; median (90th percentile) of ${rounds} rounds\n`); // prettier-ignore
  console.log(`${"".padEnd(18)}step with journal    ledger's commit      together`);
  const together = sides.map(({ step, commit }) => step.map((ms, index) => ms + commit[index]!));
  for (const [index, { name, step, commit }] of sides.entries()) {
    console.log(`${name.padEnd(18)}${[step, commit, together[index]!].map((list) => summary(list).padEnd(21)).join("")}`.trimEnd()); // prettier-ignore
  }
  const [without, synced] = together.map((list) => quantile(list, 0.5)) as [number, number];
  console.log(`\nsyncs add ${(synced - without).toFixed(2)} ms a round, a factor of ${(synced / without).toFixed(2)}`);
  for (const { optimizer, ledger } of sides) {
    await optimizer.close();
    ledger.close();
  }
  await rm(folder, { recursive: true });
}

async function oneRound({ optimizer, ledger, step, commit }: Side, payload: Uint8Array): Promise<void> {
  const version = optimizer.version() + 1;
  for (let firstUnit = 0; firstUnit < UNITS; firstUnit++) {
    const received = await optimizer.receive({ firstUnit, units: 1, payload });
    if (!received.ok) throw new Error(received.reason);
  }
  const baseHash = optimizer.hash();
  const t0 = performance.now();
  const result = await optimizer.step({ version, tokens: 768, learningRate: 1e-4 });
  if (!result.applied) throw new Error("the step was not applied");
  const t1 = performance.now();
  const { hash, journal, record, gradientNorm } = result;
  const row: RoundRow = { version, origin: 8 * (version - 1), samples: 8, tokens: 768, lossSum: 8, gradientNorm, learningRate: 1e-4, hash, baseHash, journal, record, committedMs: t1, roundMs: 1, computeMs: 1, commitMs: 1, workers: 2, bytesIn: 0, bytesOut: 0 }; // prettier-ignore
  const parts = Array.from({ length: UNITS }, (_, firstUnit) => ({ firstUnit, units: 1, lease: firstUnit + 1, worker: `w${firstUnit % 2}`, tokens: 96, lossSum: 1, norm: 1 })); // prettier-ignore
  const leases = parts.map(({ firstUnit, lease, worker }) => ({ lease, worker, firstUnit, units: 1, returned: 0, end: null })); // prettier-ignore
  ledger.commitRound(row, parts, { issued: UNITS, leases, returned: [] });
  const t2 = performance.now();
  if (version <= WARM_UP) return;
  step.push(t1 - t0);
  commit.push(t2 - t1);
}

function summary(times: readonly number[]): string {
  return `${quantile(times, 0.5).toFixed(2)} (${quantile(times, 0.9).toFixed(2)}) ms`;
}

function quantile(times: readonly number[], q: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}
