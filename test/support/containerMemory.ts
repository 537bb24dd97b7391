/** @file What coordinator and worker take in memory, in containers of the images, for a run of `tiny`: as `ps` has it. */
import type { StartedTestContainer } from "testcontainers";
import { startCluster } from "../../deploy/testing/cluster.ts";
import { docker } from "./containers.ts";

export type ContainerMemory = {
  /** Resident set of a coordinator that has prepared its corpus and waits for its first worker, MB. */
  readonly idleCoordinatorMb: number;
  /** Largest resident set of a worker in {@link ROUNDS} rounds, MB. */
  readonly workerMb: number;
};

/** Enough for shards, sessions and spare buffers to be there, and for the garbage collector to have shown what it leaves. */
const ROUNDS = 40;

/** What starting needed is let go within this. */
const SETTLE_MS = 5000;

export async function measureMemory(): Promise<ContainerMemory> {
  const flags = ["--tokenizer", "char", "--preset", "tiny", "--steps", "100000", "--evaluate-every", "0"];
  const cluster = await startCluster({ workers: 0, flags });
  try {
    await new Promise((done) => setTimeout(done, SETTLE_MS));
    const idleCoordinatorMb = await residentMb(cluster.coordinator);
    const worker = await cluster.startWorker("worker");
    let workerMb = 0;
    for (let version = 1; version <= ROUNDS; version++) {
      await cluster.until((status) => status.version >= version, 300_000);
      workerMb = Math.max(workerMb, await residentMb(worker));
    }
    return { idleCoordinatorMb, workerMb };
  } finally {
    await cluster.stop();
  }
}

/** Of the container's first process, MB (10⁶ bytes). */
export async function residentMb(container: StartedTestContainer): Promise<number> {
  const [, line = ""] = (await docker("top", container.getId(), "-o", "pid,rss")).split("\n");
  return (Number(line.trim().split(/\s+/)[1]) * 1024) / 1e6;
}
