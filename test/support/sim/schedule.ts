/**
 * @file A seed is a whole story: a run, its workers and everything that goes wrong, all drawn from it. Faults last until a
 * moment of calm; from there on the run must finish within a bounded time, with every invariant unbroken on the way.
 */
import type { RoundConfig } from "../../../coordinator/round/roundState.ts";
import { chooser, createCluster } from "../cluster.ts";
import type { Cluster, Mutation, SimWorker } from "../cluster.ts";
import { CALM } from "./network.ts";
import type { FaultCounts, FaultRates } from "./network.ts";
import { Violation } from "./violation.ts";
import type { Behaviour } from "./worker.ts";

export type ScheduleReport = FaultCounts & {
  readonly rounds: number;
  readonly workers: number;
  readonly restarts: number;
  readonly refused: number;
  readonly events: number;
  readonly virtualMs: number;
};

/**
 * From calm to the end, virtual: a retry (15 s) that begins just then, a worker 128 times slower than the others holding a
 * lease of several units until its deadline, pauses of up to a minute for who sent garbage, and the rest of the rounds.
 */
const PROGRESS_MS = 180_000;

/** The longest that anything is under way when everybody is gone: a unit on the slowest device, a hundred times slowed down. */
const LEFTOVER_MS = 60_000;

/** Often enough that the guard refuses, asks another worker and believes it in most schedules. */
const ODD_UNITS = 1 / 16;

export async function runSchedule(seed: number, { mutation }: { mutation?: Mutation } = {}): Promise<ScheduleReport> {
  const choose = chooser(seed);
  /** One of many seeds has a crowd: joins and leaves of up to 200 workers. */
  const crowd = seed % 250 === 17;
  const config = configOf(seed, choose, crowd);
  const codec = choose(2) === 0 && config.strict ? "i8" : "f32";
  const cluster = await createCluster(config, seed, {
    codec,
    oddUnits: ODD_UNITS,
    ...(mutation === undefined ? {} : { mutation }),
  });
  const calmAtMs = 300 + choose(crowd ? 3000 : 2500);
  const workers: SimWorker[] = [];
  const add = (): void => void workers.push(addWorker(cluster, choose, config, workers.length, calmAtMs));

  // One worker that only the network can disturb: without any, no calm would let the run finish.
  workers.push(cluster.add({ name: "anchor", unitMs: 10 + choose(30) }));
  for (let index = crowd ? 50 + choose(100) : choose(4); index > 0; index--) add();

  cluster.setFaults(ratesOf(choose));
  const maxWorkers = crowd ? 200 : 8;
  let calm = false;
  const stop = cluster.clock.every(crowd ? 10 + choose(30) : 40 + choose(160), () => {
    if (calm) return;
    if (cluster.clock.nowMs() >= calmAtMs) {
      calm = true;
      cluster.setFaults(CALM);
      cluster.fillDisk(false);
      for (const worker of workers) worker.partition(false);
      return;
    }
    oneFault(cluster, workers, choose, { add, maxWorkers });
  });
  const within = calmAtMs + PROGRESS_MS + config.steps * Math.ceil(config.batch / config.unit) * 40;
  try {
    await cluster.clock.runUntil(cluster.finished, within);
  } catch (error) {
    if (error instanceof Violation || !(error instanceof Error)) throw error;
    throw new Violation("progress", `${error.message}; ${cluster.run().status().reason}`);
  }
  stop();
  await checkEnd(cluster, workers);
  const { counts } = cluster;
  return { ...counts, rounds: cluster.rounds.length, workers: workers.length, virtualMs: cluster.clock.nowMs() };
}

function configOf(seed: number, choose: (limit: number) => number, crowd: boolean): RoundConfig {
  // Few kinds of runs, so that the undisturbed ones are computed once and compared with many times.
  const kind = seed % 24;
  const unit = 1 + (kind % 3);
  const units = crowd ? 64 : 2 + (kind % 4) * 2;
  return {
    batch: unit * units - (unit > 1 && kind % 2 === 1 ? 1 : 0),
    unit,
    evaluationUnit: 8,
    tokensPerSample: 8,
    steps: crowd ? 4 : 4 + (kind % 3),
    evaluateEvery: kind % 5 === 0 ? 2 : 0,
    evaluationSamples: 10,
    finalEvaluationSamples: kind % 2 === 0 ? 12 : 0,
    strict: kind % 4 !== 3,
    guard: "refuse",
    minLeaseMs: 500 + 500 * choose(3),
    probeEveryMs: 3000 + choose(20_000),
  };
}

function ratesOf(choose: (limit: number) => number): FaultRates {
  const rate = (): number => [0, 0, 0, 0.01, 0.05][choose(5)]!;
  return { delay: rate(), drop: rate() / 4, duplicate: rate(), reorder: rate(), corrupt: rate() / 2 };
}

function addWorker(
  cluster: Cluster,
  choose: (limit: number) => number,
  { steps }: RoundConfig,
  index: number,
  calmAtMs: number,
): SimWorker {
  const behaviours: readonly Behaviour[] = ["compute", "compute", "hang", "garbage", "slow", "die"];
  const bad = behaviours[choose(behaviours.length)]!;
  const chronic = choose(4) === 0;
  const worker = cluster.add({
    name: `${bad} ${index}`,
    // Speeds over more than two orders of magnitude.
    unitMs: 1.5 ** choose(14),
    ...(choose(6) === 0 ? { lies: 0.3 } : {}),
    clockRate: [1, 1, 0.7, 1.5][choose(4)]!,
    clockOffsetMs: choose(3) === 0 ? choose(1e9) : 0,
    // Who is wrong all the time stays so until the calm; who never answers, for ever.
    behaviour: () => (chronic && (bad === "hang" || cluster.clock.nowMs() < calmAtMs) ? bad : "compute"),
  });
  if (!chronic && bad !== "compute") worker.failAt(choose(steps), bad);
  return worker;
}

function oneFault(
  cluster: Cluster,
  workers: SimWorker[],
  choose: (limit: number) => number,
  { add, maxWorkers }: { add: () => void; maxWorkers: number },
): void {
  const victim = workers[1 + choose(Math.max(1, workers.length - 1))];
  const living = workers.filter((worker) => worker.alive()).length;
  switch (choose(15)) {
    case 0:
    case 1:
      victim?.kill();
      return;
    case 2:
    case 3:
      if (living < maxWorkers) add();
      return;
    case 4: {
      // The same volunteer, back with what it remembers.
      if (victim === undefined || living >= maxWorkers) return;
      victim.kill();
      const { identity } = victim.session().state();
      workers.push(cluster.add({ name: "again", unitMs: 1.5 ** choose(10), identity }));
      return;
    }
    case 5:
      workers[choose(workers.length)]?.partition(true);
      return;
    case 6:
      workers[choose(workers.length)]?.partition(
        choose(2) === 0 ? { up: true, down: false } : { up: false, down: true },
      );
      return;
    case 7:
    case 8:
      workers[choose(workers.length)]?.partition(false);
      return;
    case 9:
      if (choose(2) === 0)
        cluster.restart({ at: (["now", "journal", "ledger"] as const)[choose(3)]!, downMs: choose(2) * choose(1500) });
      return;
    case 10:
      victim?.session().stop("stopped by its owner");
      return;
    case 11:
      // A storm: several at once.
      for (let more = choose(maxWorkers / 4); more > 0; more--) if (workers.filter((worker) => worker.alive()).length < maxWorkers) add(); // prettier-ignore
      return;
    case 12:
      for (const worker of workers.slice(1)) if (choose(3) === 0) worker.kill();
      return;
    case 13:
      cluster.run().kick(victim?.session().state().identity?.worker ?? "", "a test");
      return;
    case 14:
      cluster.fillDisk(choose(2) === 0);
      return;
    default:
      throw new Error("a fault that is none");
  }
}

/** [I5] after the last round: nothing that a round, a failed round or a worker that left brought with it is still there. */
async function checkEnd(cluster: Cluster, workers: readonly SimWorker[]): Promise<void> {
  for (const worker of workers) worker.kill();
  const { leases, merging } = cluster.run().state();
  const sizes = { leases: leases.size, merging: merging.size, payloads: cluster.run().sizes().payloads };
  for (const [what, size] of Object.entries(sizes)) {
    if (size > 0) throw new Violation("I5", `${size} ${what} are left when the run is finished`);
  }
  cluster.end();
  try {
    await cluster.clock.runUntil(() => cluster.clock.pending() === 0, cluster.clock.nowMs() + LEFTOVER_MS);
  } catch (error) {
    throw new Violation(
      "I5",
      `${cluster.clock.pending()} timers of ${workers.length} ended workers go on: ${String(error)}`,
    );
  }
}

/** What to type to see it again. */
export function reproduce(seed: number): string {
  return `npm run sim -- --seed ${seed}`;
}
