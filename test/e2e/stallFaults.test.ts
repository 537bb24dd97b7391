import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Status, WorkerStatus } from "../../shared/wire/status.ts";
import { auditRun } from "../support/auditRun.ts";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";
import type { CoordinatorProcess } from "../support/coordinatorProcess.ts";
import { tcpProxy } from "../support/tcpProxy.ts";
import { startWorker } from "../support/workerProcess.ts";

let dir: string;
let corpus: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-stall-"));
  corpus = smallCorpus(dir);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const flags = (name: string): string[] => ["--run", name, ...smallRun(dir, corpus), "--steps", "1000000", "--workers", "0", "--schedule", "wsd", "--warmup", "10", "--codec", "i8", "--strict", "--evaluate-every", "0"]; // prettier-ignore

const named = ({ workers }: Status, name: string): WorkerStatus | undefined => workers.find((worker) => worker.name === name); // prettier-ignore

/** Some rounds more than now. */
async function goesOn(coordinator: CoordinatorProcess): Promise<void> {
  const { version } = await coordinator.status();
  await coordinator.until((status) => status.version >= version + 5);
}

/** The heartbeat is 5 s: a silent peer is given up after 15 s, and loaded machines are slow. */
test("[I2] stopped processes and a silent network: the rounds go on, everybody comes back as itself, no sample is lost or twice", async () => {
  const coordinator = await startCoordinator(flags("stalled"));
  const proxy = await tcpProxy(Number(new URL(coordinator.url).port));
  const steady = startWorker(coordinator.url, "steady", ["--quiet"]);
  const frozen = startWorker(coordinator.url, "frozen", ["--quiet"]);
  const cable = startWorker(`http://127.0.0.1:${proxy.port}`, "cable", ["--quiet"]);
  try {
    const all = await coordinator.until((status) => ["steady", "frozen", "cable"].every((name) => named(status, name)?.state === "ready")); // prettier-ignore
    const ids = ["frozen", "cable"].map((name) => named(all, name)?.worker);

    // A laptop is closed, and a cable pulled: neither side hears of it. Their leases are taken over at once.
    frozen.child.kill("SIGSTOP");
    proxy.silence();
    await goesOn(coordinator);
    expect(named(await coordinator.status(), "frozen")).toBeDefined();
    await coordinator.until(({ workers }) => workers.length === 1, 60_000);
    await goesOn(coordinator);

    frozen.child.kill("SIGCONT");
    proxy.restore();
    const back = await coordinator.until((status) => ["frozen", "cable"].every((name) => named(status, name)?.state === "ready")); // prettier-ignore
    expect(["frozen", "cable"].map((name) => named(back, name)?.worker)).toEqual(ids);
    await goesOn(coordinator);

    // The coordinator itself stands still for a moment: shorter than a heartbeat timeout, nobody leaves.
    coordinator.child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 3000));
    coordinator.child.kill("SIGCONT");
    await goesOn(coordinator);
    expect((await coordinator.status()).workers).toHaveLength(3);
  } finally {
    for (const { child } of [coordinator, steady, frozen, cable]) child.kill("SIGKILL");
    await Promise.all([coordinator, steady, frozen, cable].map(({ exit }) => exit));
    await proxy.close();
  }
  const audit = await auditRun(dir, "stalled");
  expect(audit.clean, audit.report).toBe(true);
});
