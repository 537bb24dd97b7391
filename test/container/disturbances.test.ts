/**
 * @file One run in containers, disturbed in every way that we know: it trains on, and ends at the same θ, bit for bit, as one
 * that nobody disturbed. The tests follow on each other: each disturbs the run that the one before left.
 */
import { afterAll, describe, expect } from "vitest";
import type { StartedTestContainer } from "testcontainers";
import { type Cluster, startCluster } from "../../deploy/testing/cluster.ts";
import { buildImages, containerTest, cpuSeconds, docker, withEngine } from "../support/containers.ts";

/** Twice what is trained while it is being disturbed: who comes to a run that ended leaves in peace. */
const STEPS = 240;

// `tiny`; characters, because that corpus is prepared in a second. Units enough for three workers of different speed.
const run = [
  "--run",
  "disturbed",
  "--tokenizer",
  "char",
  "--preset",
  "tiny",
  "--batch",
  "32",
  "--unit",
  "2",
  "--strict",
];
const flags = [...run, "--steps", String(STEPS), "--snapshot-every", "40", "--evaluate-every", "0", "--final-evaluation-samples", "16"]; // prettier-ignore

describe("a run in containers", () => {
  let cluster: Cluster;
  let undisturbed: string;
  const workers = new Map<string, StartedTestContainer>();

  withEngine(async () => {
    await buildImages();
    const alone = await startCluster({ workers: 2, flags });
    undisturbed = (await alone.until(({ phase }) => phase === "finished", 600_000)).hash;
    await alone.stop();
    cluster = await startCluster({ workers: 0, flags });
    for (const name of ["a", "b", "c"]) workers.set(name, await cluster.startWorker(name));
  });
  afterAll(() => cluster?.stop());

  const id = (name: string): string => workers.get(name)!.getId();
  const rounds = async (count: number): Promise<void> => {
    const { version } = await cluster.status();
    await cluster.until((status) => status.version >= version + count);
  };

  containerTest("three workers on a network of their own train tiny to a falling loss", async () => {
    const first = await cluster.until(({ version, trainLoss }) => version >= 1 && trainLoss !== null);
    const later = await cluster.until((status) => status.version >= 20 && names(status).length === 3);
    expect(later.trainLoss).toBeLessThan(first.trainLoss! - 0.2);
  });

  containerTest("a worker that is killed is missed by nobody", async () => {
    await docker("kill", "--signal", "KILL", id("a"));
    await cluster.until((status) => names(status).join() === "b,c");
    await rounds(3);
    workers.set("a2", await cluster.startWorker("a2"));
  });

  containerTest("a worker that is paused holds nobody up, and goes on when it is let", async () => {
    await docker("pause", id("b"));
    await cluster.until((status) => !names(status).includes("b"));
    await rounds(3);
    await docker("unpause", id("b"));
    await cluster.until((status) => names(status).includes("b"));
  });

  containerTest("a worker that is cut off comes back when the network is healed, as the same worker", async () => {
    const before = (await cluster.status()).workers.find(({ name }) => name === "c")!;
    await docker("network", "disconnect", cluster.network, id("c"));
    await cluster.until((status) => !names(status).includes("c"));
    await rounds(3);
    await docker("network", "connect", cluster.network, id("c"));
    const healed = await cluster.until((status) => names(status).includes("c"));
    expect(healed.workers.find(({ name }) => name === "c")?.worker).toBe(before.worker);
  });

  containerTest("a worker limited to 0.3 of a processor is lent less", async () => {
    const [beginMs, begin] = [performance.now(), cpuSeconds(id("b"))];
    const before = await shares(cluster);
    const had = (1000 * (cpuSeconds(id("b")) - begin)) / (performance.now() - beginMs);
    // On a machine so busy that it had no more than that anyway, the limit would limit nothing: less than half of what it had.
    const cpus = had > 2 * 0.3 ? 0.3 : 0.45 * had;
    process.stdout.write(`b had ${had.toFixed(2)} CPUs, is limited to ${cpus.toFixed(2)}\n`);
    await docker("update", "--cpus", cpus.toFixed(3), id("b"));
    // Its speed is measured anew, a unit at a time.
    await rounds(8);
    const after = await shares(cluster);
    expect(after.get("b")!, `tokens in 8 rounds ${JSON.stringify([...after])}, before ${JSON.stringify([...before])}`).toBeLessThan(0.7 * before.get("b")!); // prettier-ignore
    await docker("update", "--cpus", "2", id("b"));
  });

  containerTest("a coordinator container that is restarted goes on from its volume", async () => {
    const { version } = await cluster.status();
    await docker("kill", "--signal", "KILL", cluster.coordinator.getId());
    await cluster.coordinator.restart();
    const after = await cluster.until((status) => names(status).length >= 2);
    expect(after.version).toBeGreaterThanOrEqual(version);
    await rounds(2);
  });

  containerTest("a worker that the kernel kills for its memory is missed by nobody", async () => {
    // Whether it lives long enough to be seen starting is the kernel's affair.
    await cluster.startWorker("greedy", { memoryGiB: 0.09 }).catch(() => {});
    const dead = await docker("ps", "-a", "--filter", `name=${cluster.network}-greedy`, "--format", "{{.ID}}");
    await until(async () => (await docker("inspect", dead, "--format", "{{.State.Running}}")) === "false");
    expect(await docker("inspect", dead, "--format", "{{.State.ExitCode}}")).toBe("137");
    await rounds(2);
  });

  containerTest(
    "it ends, the audit is clean, it stops with exit code 0, and θ is that of the undisturbed run",
    async () => {
      const { hash, version } = await cluster.until(({ phase }) => phase === "finished", 600_000);
      expect(version).toBe(STEPS);
      expect(hash).toBe(undisturbed);
      const audit = ["node", "coordinator/auditMain.js", "--runs-dir", "/data/runs", "--run", "disturbed"];
      // Ends with 1 when a sample is missing or was used twice.
      await docker("exec", cluster.coordinator.getId(), ...audit);
      await docker("stop", cluster.coordinator.getId());
      expect(await docker("inspect", cluster.coordinator.getId(), "--format", "{{.State.ExitCode}}")).toBe("0");
    },
  );
});

/** Of the workers that are ready, in order. */
function names({ workers: list }: { workers: readonly { name: string; state: string }[] }): string[] {
  return list.filter(({ state }) => state === "ready").map(({ name }) => name).sort(); // prettier-ignore
}

/** Tokens by worker in the next few rounds. */
async function shares(cluster: Cluster): Promise<Map<string, number>> {
  const start = await cluster.status();
  const end = await cluster.until(({ version }) => version >= start.version + 8);
  const before = new Map(start.workers.map(({ worker, tokens }) => [worker, tokens]));
  return new Map(end.workers.map(({ worker, name, tokens }) => [name, tokens - (before.get(worker) ?? 0)]));
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt++) {
    if (await condition()) return;
    await new Promise((done) => setTimeout(done, 200));
  }
  throw new Error("not within a minute");
}
