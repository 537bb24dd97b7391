/**
 * @file [I5] Rounds with a worker dying in each, and what the coordinator holds meanwhile: heap, memory of the process, files,
 * sockets, timers, leases. What a worker or a round brought with it must be gone with it.
 */
import { setTimeout } from "node:timers/promises";
import type { Engine } from "../../shared/engine/engine.ts";
import { createNodeEngine } from "../../worker-node/engine.ts";
import { startCoordinator } from "./coordinatorProcess.ts";
import { inspectable, inspectProcess } from "./inspectProcess.ts";
import type { Holdings } from "./inspectProcess.ts";
import { dieWorking } from "./mortalWorker.ts";
import type { EngineFor } from "./mortalWorker.ts";
import { startWorker } from "./workerProcess.ts";

export type LeakSample = Holdings & {
  /** Rounds so far in which a worker died. */
  readonly deaths: number;
  /** What the coordinator says of itself, with nobody but the steady worker connected. */
  readonly workers: number;
  readonly leases: number;
};

export type LeakOptions = {
  readonly flags: readonly string[];
  readonly deaths: number;
  readonly sampleEvery: number;
  readonly onSample?: (sample: LeakSample) => void;
};

const READY_MS = 60_000;

/** An address may connect twenty times a second; rounds of a fast machine are shorter than that. */
const DEATH_MS = 110;

export async function leakRun({ flags, deaths, sampleEvery, onSample = () => {} }: LeakOptions): Promise<LeakSample[]> {
  const coordinator = await startCoordinator([...flags, "--workers", "0"], inspectable);
  const steady = startWorker(coordinator.url, "steady", ["--quiet"]);
  let made: Promise<Engine> | null = null;
  const engineFor: EngineFor = (spec, layout) => {
    made ??= createNodeEngine({ spec, layout, threads: 1, preference: "onnx" }).then(({ engine }) => engine);
    return made;
  };
  const samples: LeakSample[] = [];
  try {
    await coordinator.until(({ version }) => version >= 1, READY_MS);
    const inspector = await inspectProcess(coordinator.child, coordinator.output);
    const sample = async (count: number): Promise<void> => {
      const { workers } = await coordinator.until((status) => status.workers.length <= 1, READY_MS);
      const leases = workers.reduce((sum, worker) => sum + worker.leases, 0);
      const taken = { ...(await inspector.holdings()), deaths: count, workers: workers.length, leases };
      samples.push(taken);
      onSample(taken);
    };
    const seen = new Set<number>();
    await sample(0);
    for (let count = 0; seen.size < deaths && count < 2 * deaths; count++) {
      const after = count % 2 === 0 ? "lease" : "result";
      const [died] = await Promise.all([
        dieWorking(coordinator.url, `mortal ${count}`, { engineFor, after }),
        setTimeout(DEATH_MS),
      ]);
      seen.add(died);
      if (seen.size % sampleEvery === 0 && samples.at(-1)?.deaths !== seen.size) await sample(seen.size);
    }
    if (seen.size < deaths) throw new Error(`workers died in ${seen.size} different rounds, not in ${deaths}`);
    inspector.close();
  } finally {
    steady.child.kill("SIGKILL");
    coordinator.child.kill("SIGKILL");
    await Promise.all([coordinator.exit, steady.exit]);
    await (made as Promise<Engine> | null)?.then((engine) => engine.dispose());
  }
  return samples;
}

/** Least-squares slope of `value` over deaths: units of the value per round with a death. */
export function slopeOf(samples: readonly LeakSample[], value: (sample: LeakSample) => number): number {
  const mean = (of: (sample: LeakSample) => number): number => samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length; // prettier-ignore
  const [x, y] = [mean(({ deaths }) => deaths), mean(value)];
  const covariance = mean((sample) => (sample.deaths - x) * (value(sample) - y));
  return covariance / mean(({ deaths }) => (deaths - x) ** 2);
}
