/** @file How much of their own speed workers of very different speeds bring to a run, in virtual time. */
import type { RoundConfig } from "../../coordinator/round/roundState.ts";
import { soonestEnd } from "../../coordinator/round/lease.ts";
import { randomUniform, streamKey } from "../../shared/numerics/rng.ts";
import { createCluster } from "./cluster.ts";
import type { SimWorkerOptions } from "./cluster.ts";

export type Mix = {
  readonly name: string;
  /** Virtual time of a unit on each worker. */
  readonly unitMs: readonly number[];
  /** From this version on the first worker hangs. */
  readonly stallsFrom?: number;
};

const FAST_MS = 100;

/** 8 workers, the slowest 100 times slower than the fastest, evenly spread on a logarithmic scale. */
const logUniform = Array.from({ length: 8 }, (_, index) => Math.round(FAST_MS * 100 ** (index / 7)));

export const mixes: readonly Mix[] = [
  { name: "1 fast, 1 of a hundredth", unitMs: [FAST_MS, 100 * FAST_MS] },
  {
    name: "4 fast, 4 of a hundredth",
    unitMs: [...Array(4).fill(FAST_MS), ...Array(4).fill(100 * FAST_MS)] as number[],
  },
  { name: "8 log-uniform over 100", unitMs: logUniform },
  { name: "8 log-uniform over 100, the fastest stalls", unitMs: logUniform, stallsFrom: 6 },
  {
    name: "8 log-uniform over 10",
    unitMs: Array.from({ length: 8 }, (_, index) => Math.round(FAST_MS * 10 ** (index / 7))),
  },
  { name: "8 equal", unitMs: Array(8).fill(FAST_MS) as number[] },
];

/** Two to twelve workers with speeds over a range of 100, logarithmically uniform; in one of four the fastest stalls. */
export function randomMix(seed: number): Mix {
  const key = streamKey(seed, 0xe1a5);
  const workers = 2 + Math.floor(11 * randomUniform(key, 0));
  const unitMs = Array.from({ length: workers }, (_, index) =>
    Math.round(FAST_MS * 100 ** randomUniform(key, 1 + index)),
  );
  unitMs.sort((a, b) => a - b);
  const mix = { name: `seed ${seed}: ${workers} workers, ${unitMs.join(", ")} ms`, unitMs };
  return workers > 2 && randomUniform(key, 100) < 0.25
    ? { ...mix, name: `${mix.name}; the fastest stalls`, stallsFrom: 6 }
    : mix;
}

export type Elastic = {
  /** Committed units per time, of the sum of the workers' own speeds. */
  readonly ratio: number;
  /** What the ratio would be if every round ended as soon as whole units allow, and the network took no time. */
  readonly possible: number;
  readonly roundMs: number;
};

/** Rounds in which speeds are learned, and after a change of speeds. */
const WARM_ROUNDS = 4;

export async function measureMix(
  mix: Mix,
  { units, steps, strict }: { units: number; steps: number; strict: boolean },
): Promise<Elastic> {
  const config: RoundConfig = {
    ...{ batch: units, unit: 1, evaluationUnit: 8, tokensPerSample: 8, steps, strict, guard: "off" },
    ...{ evaluateEvery: 0, evaluationSamples: 0, finalEvaluationSamples: 0, minLeaseMs: 10_000, probeEveryMs: 30_000 },
  };
  const cluster = await createCluster(config, 1);
  const { stallsFrom = Infinity } = mix;
  for (const [index, unitMs] of mix.unitMs.entries()) {
    const options: SimWorkerOptions = { name: `worker ${index}`, unitMs };
    cluster.add(
      index === 0 ? { ...options, behaviour: (version) => (version >= stallsFrom ? "hang" : "compute") } : options,
    );
  }
  await cluster.clock.runUntil(cluster.finished, 1e9);
  const first = stallsFrom === Infinity ? WARM_ROUNDS : stallsFrom + WARM_ROUNDS;
  const [from, to] = [cluster.rounds[first - 1]!, cluster.rounds.at(-1)!];
  const elapsedMs = to.committedMs - from.committedMs;
  const left = mix.unitMs.slice(stallsFrom === Infinity ? 0 : 1);
  const own = left.reduce((sum, unitMs) => sum + 1 / unitMs, 0);
  const soonestMs = soonestEnd(units, left.map((unitMs) => ({ unitMs, busyMs: 0 }))); // prettier-ignore
  const rounds = to.version - from.version;
  cluster.end();
  return { ratio: (rounds * units) / elapsedMs / own, possible: units / soonestMs / own, roundMs: elapsedMs / rounds };
}
