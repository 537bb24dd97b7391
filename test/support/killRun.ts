/**
 * @file One run of real processes under a seeded schedule of SIGKILLs: workers and the coordinator die at random instants, a
 * part of the coordinator's deaths right after it wrote to its journal, where a step is durable and not yet committed.
 * Afterwards an undisturbed run is made of the same settings, to compare every version's hash with.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { decodeRecordHeader, recordBytes, RECORD_HEADER_BYTES } from "../../coordinator/store/journal.ts";
import { randomUniform } from "../../shared/numerics/rng.ts";
import { auditRun } from "./auditRun.ts";
import { startCoordinator, storedRounds } from "./coordinatorProcess.ts";
import type { CoordinatorProcess } from "./coordinatorProcess.ts";
import { freePort } from "./freePort.ts";
import { startWorker } from "./workerProcess.ts";
import type { WorkerProcess } from "./workerProcess.ts";

export type KillOptions = {
  readonly dir: string;
  readonly seed: number;
  /** Flags of the run: model, batch, codec; not its name, port or workers. */
  readonly flags: readonly string[];
  readonly workers: number;
  readonly workerKills: number;
  readonly coordinatorKills: number;
  /** Between one kill and the next, at most. */
  readonly maxPauseMs: number;
  readonly log?: (line: string) => void;
};

export type KillReport = {
  /** The disturbed run's last committed version. */
  readonly version: number;
  readonly workerKills: number;
  readonly coordinatorKills: number;
  /** Deaths of the coordinator that left a step in the journal which the ledger does not have. */
  readonly duringCommit: number;
  /** From each SIGKILL of the coordinator to the first answered request of its successor. */
  readonly backMs: readonly number[];
  /** The first version whose hash differs from the undisturbed run's; null when none does. */
  readonly firstDifference: number | null;
  /** Of the disturbed run's ledger [I2]. */
  readonly audit: { readonly clean: boolean; readonly report: string };
};

/** A round of this run takes well below a second; a loaded machine may take its time. */
const PROGRESS_MS = 120_000;

/** Some rounds. */
const AIM_MS = 1000;

export async function killRun(options: KillOptions): Promise<KillReport> {
  const { dir, seed, workerKills, coordinatorKills, log = () => {} } = options;
  const port = await freePort();
  const flags = (name: string): string[] => ["--run", name, ...options.flags, "--port", String(port), "--workers", "0"];
  let drawn = 0;
  const choose = (limit: number): number => Math.floor(randomUniform(seed, drawn++) * limit);

  let coordinator = await startCoordinator(flags("disturbed"));
  let started = 0;
  const spawnWorker = (): WorkerProcess => startWorker(coordinator.url, `volunteer ${++started}`, ["--quiet"]);
  const workers = Array.from({ length: options.workers }, spawnWorker);
  const backMs: number[] = [];
  let duringCommit = 0;
  try {
    const first = await coordinator.until(({ version }) => version >= 2, PROGRESS_MS);
    log(`first rounds done, at version ${first.version}`);
    // Every kind of victim in its number, in a seeded order.
    const left = { worker: workerKills, coordinator: coordinatorKills };
    while (left.worker + left.coordinator > 0) {
      await sleep(choose(options.maxPauseMs));
      if (choose(left.worker + left.coordinator) < left.worker) {
        left.worker -= 1;
        const index = choose(workers.length);
        const victim = workers[index]!;
        victim.child.kill("SIGKILL");
        await victim.exit;
        workers[index] = spawnWorker();
        continue;
      }
      left.coordinator -= 1;
      const before = storedRounds(dir, "disturbed").length;
      const folder = join(dir, "runs", "disturbed", "snapshots");
      if (choose(2) === 0) awaitJournalWrite(folder);
      const killedMs = performance.now();
      coordinator.child.kill("SIGKILL");
      await coordinator.exit;
      if (journalledVersion(folder) > storedRounds(dir, "disturbed").length) duringCommit += 1;
      coordinator = await startCoordinator(flags("disturbed"));
      const { version } = await coordinator.until(() => true);
      backMs.push(performance.now() - killedMs);
      if (version < before) throw new Error(`[I4] version ${before} was committed, the next coordinator begins at ${version}`); // prettier-ignore
      log(
        `${left.worker} + ${left.coordinator} kills left; back in ${Math.round(backMs.at(-1)!)} ms at version ${version}`,
      );
      // Each life commits something: otherwise 50 deaths in a row would show nothing.
      await coordinator.until((status) => status.version > version, PROGRESS_MS);
    }
    const last = await coordinator.until(({ version }) => version >= 1, PROGRESS_MS);
    await coordinator.until(({ version }) => version >= last.version + 3, PROGRESS_MS);
  } finally {
    await endAll(coordinator, workers);
  }
  const disturbed = storedRounds(dir, "disturbed");
  const undisturbed = await undisturbedHashes(options, flags("undisturbed"), disturbed.length);
  const differs = disturbed.findIndex(({ hash }, index) => hash !== undisturbed[index]);
  return {
    version: disturbed.length,
    workerKills,
    coordinatorKills,
    duringCommit,
    backMs,
    firstDifference: differs < 0 ? null : differs + 1,
    audit: await auditRun(dir, "disturbed"),
  };
}

async function undisturbedHashes(options: KillOptions, flags: string[], versions: number): Promise<string[]> {
  const coordinator = await startCoordinator(flags);
  const workers = Array.from({ length: 2 }, (_, index) => startWorker(coordinator.url, `steady ${index}`, ["--quiet"]));
  try {
    options.log?.(`the same without kills, to version ${versions}`);
    // As long as the slowest of test machines may take for the rounds, and some.
    await coordinator.until(({ version }) => version >= versions, 60_000 + 1000 * versions);
  } finally {
    await endAll(coordinator, workers);
  }
  return storedRounds(options.dir, "undisturbed").map(({ hash }) => hash);
}

async function endAll(coordinator: CoordinatorProcess, workers: readonly WorkerProcess[]): Promise<void> {
  for (const { child } of workers) child.kill("SIGKILL");
  coordinator.child.kill("SIGKILL");
  await Promise.all([coordinator.exit, ...workers.map(({ exit }) => exit)]);
}

/**
 * Returns in the instant in which a journal has grown: a step is being made durable, its round most likely not yet in the ledger.
 * Looks without pause: the window is a fraction of a millisecond. Gives up after {@link AIM_MS}.
 */
function awaitJournalWrite(folder: string): void {
  const path = newestJournal(folder);
  const size = statSync(path).size;
  for (const endMs = performance.now() + AIM_MS; performance.now() < endMs;) {
    if (statSync(path, { throwIfNoEntry: false })?.size !== size) return;
  }
}

function newestJournal(folder: string): string {
  const bases = readdirSync(folder).flatMap((file) => /^journal-(\d+)\.bin$/.exec(file)?.slice(1).map(Number) ?? []);
  return join(folder, `journal-${Math.max(...bases)}.bin`);
}

/** The version of the last whole record of the newest journal; 0 when it has none. */
function journalledVersion(folder: string): number {
  const bytes = readFileSync(newestJournal(folder));
  const headerAt = (offset: number): ReturnType<typeof decodeRecordHeader> =>
    decodeRecordHeader(bytes.subarray(offset, offset + RECORD_HEADER_BYTES));
  let version = 0;
  for (let [offset, record] = [0, headerAt(0)]; record !== null; record = headerAt(offset)) {
    version = record.version;
    offset += recordBytes(record.length);
  }
  return version;
}
