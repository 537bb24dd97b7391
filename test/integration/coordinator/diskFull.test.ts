import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { diskProblem } from "../../../coordinator/store/diskProblem.ts";
import { openLedger } from "../../../coordinator/store/ledger.ts";
import type { RoundRow } from "../../../coordinator/store/ledger.ts";
import { openOptimizer } from "../../../coordinator/optimizer/optimize.ts";
import { runCoordinator, smallCorpus, smallRun, startCoordinator, storedContributions, storedRounds } from "../../support/coordinatorProcess.ts"; // prettier-ignore
import { contribute, optimizerOptions, runRound, stepRound } from "../../support/optimizerRun.ts";
import { mountSmallDisk } from "../../support/smallDisk.ts";
import type { SmallDisk } from "../../support/smallDisk.ts";

let dir: string;
let whyNot = "";
const disks: SmallDisk[] = [];

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-full-"));
});
afterEach(() => {
  for (const disk of disks.splice(0)) disk.remove();
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function smallDisk(bytes: number, skip: (reason: string) => void): SmallDisk {
  const disk = mountSmallDisk(bytes, (reason) => (whyNot = reason));
  if (disk === null) {
    console.warn(`skipped: ${whyNot}`);
    skip(whyNot);
    throw new Error("unreachable");
  }
  disks.push(disk);
  return disk;
}

function round(version: number): RoundRow {
  return { version, origin: 4 * (version - 1), samples: 4, tokens: 40, lossSum: 1, gradientNorm: 1, learningRate: 1, hash: "h", baseHash: "b", journal: 0, record: version - 1, committedMs: version, roundMs: 1, computeMs: 1, commitMs: 1, workers: 1, bytesIn: 0, bytesOut: 0 }; // prettier-ignore
}

const account = { issued: 4, leases: [], returned: [] };

test("a ledger without room refuses a round whole, keeps what was gathered, and takes both when there is room", ({
  skip,
}) => {
  const disk = smallDisk(1 << 20, skip);
  const file = join(disk.dir, "ledger.sqlite");
  const ledger = openLedger(file);
  ledger.commitRound(round(1), [], account);
  disk.fill();
  let [version, problem] = [2, null as string | null];
  for (; problem === null && version < 10_000; version++) {
    ledger.event(version, "test", "x".repeat(200));
    try {
      ledger.commitRound(round(version), [], account);
    } catch (error) {
      problem = diskProblem(error);
      expect(problem, String(error)).not.toBeNull();
    }
  }
  const last = version - 2;
  expect(ledger.lastRound()?.version).toBe(last);
  expect(() => ledger.flush()).toThrow();
  disk.makeRoom();
  ledger.commitRound(round(last + 1), [], account);
  expect(ledger.events(1)).toEqual([{ atMs: last + 1, code: "test", text: "x".repeat(200) }]);
  ledger.close();
  const again = openLedger(file);
  expect(again.rounds().map((row) => row.version)).toEqual(Array.from({ length: last + 1 }, (_, index) => index + 1));
  expect(again.events(10_000).length).toBe(last);
  again.close();
});

test("a journal without room calls the step off, a snapshot without room leaves nothing half-written; both succeed later", async ({
  skip,
}) => {
  const disk = smallDisk(32 << 20, skip);
  const undisturbed = await openOptimizer({ ...optimizerOptions, dir: join(dir, "undisturbed"), until: 0 });
  const expected = [];
  for (let version = 1; version <= 6; version++) expected.push(await runRound(undisturbed.optimizer));
  await undisturbed.optimizer.close();

  const options = { ...optimizerOptions, dir: join(disk.dir, "run"), sync: true };
  const { optimizer } = await openOptimizer({ ...options, until: 0 });
  const hashes = [await runRound(optimizer), await runRound(optimizer)];
  disk.fill();
  await contribute(optimizer);
  for (let attempt = 0; attempt < 3; attempt++) {
    const refusal = await stepRound(optimizer).then(() => null, diskProblem);
    expect(refusal).toBe("no space left on the disk");
    await expect(optimizer.snapshot()).rejects.toThrow(/ENOSPC/);
    expect([optimizer.version(), optimizer.hash()]).toEqual([2, hashes[1]]);
  }
  expect(readdirSync(join(disk.dir, "run")).filter((name) => name.includes(".tmp") || name.startsWith("2-"))).toEqual(
    [],
  );
  disk.makeRoom();
  hashes.push(await stepRound(optimizer), await runRound(optimizer));
  await optimizer.snapshot();
  hashes.push(await runRound(optimizer), await runRound(optimizer));
  await optimizer.close();
  expect(hashes).toEqual(expected);
  const again = await openOptimizer({ ...options, until: 6 });
  expect(again.recovery).toMatchObject({ snapshot: 4, replayed: 2, skipped: [] });
  expect(again.optimizer.hash()).toBe(expected[5]);
  await again.optimizer.close();
});

/** More than the last of the disk's remains can hold: a fast machine must not be done before it is full. */
const STEPS = 120;

test("[I4] a full disk pauses a running job with its reason; with room it goes on to the θ of the undisturbed run", async ({
  skip,
}) => {
  const disk = smallDisk(24 << 20, skip);
  const flags = (runs: string, name: string): string[] =>
    ["--run", name, ...smallRun(dir, smallCorpus(dir)), "--runs-dir", join(runs, "runs"), "--steps", String(STEPS), "--workers", "2", "--snapshot-every", "7"]; // prettier-ignore
  const whole = await runCoordinator(flags(dir, "whole"));
  expect(whole.code, whole.output).toBe(0);
  const running = await startCoordinator(flags(disk.dir, "full"));
  let stopped = 0;
  // Different room each time, so that different writes are the ones refused.
  for (const [version, leave] of [
    [5, 0],
    [18, 150_000],
    [31, 400_000],
  ] as const) {
    await running.until((status) => status.version >= version);
    disk.fill(leave);
    await running.until((status) => status.phase === "paused");
    // What was refused may need less at the second attempt.
    disk.fill();
    const paused = await running.until((status) => status.phase === "paused");
    expect(paused.paused["disk"]).toMatch(/^no space left on the disk/);
    expect(paused.reason).toMatch(/^paused: no space left on the disk/);
    const held = await running.until((status) => status.workers.every(({ waitingReason }) => waitingReason === paused.reason)); // prettier-ignore
    expect(running.child.exitCode).toBeNull();
    // Longer than the interval between attempts.
    await new Promise((done) => setTimeout(done, 2500));
    // What was leased when the disk was found full may have completed one round.
    expect((await running.status()).version).toBeLessThanOrEqual(held.version + 1);
    disk.makeRoom();
    stopped += 1;
    await running.until((status) => status.phase !== "paused" && status.version > held.version);
  }
  expect(stopped).toBe(3);
  expect(await running.exit, running.output()).toBe(0);
  expect(storedRounds(disk.dir, "full").map(({ hash }) => hash)).toEqual(storedRounds(dir, "whole").map(({ hash }) => hash)); // prettier-ignore
  const units = storedContributions(disk.dir, "full").filter(({ version }) => version <= STEPS);
  expect(units.length).toBe(STEPS * 8);
  expect(running.output()).toMatch(/paused: no space left on the disk/);
}, 180_000);
