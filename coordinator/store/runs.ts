/** @file The runs in a folder: what they are, how they stand, and the operator's controls over them, served or not. */
import { existsSync, readFileSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../../shared/operatorError.ts";
import { LEDGER_FILE, openLedger, readLedger } from "./ledger.ts";
import type { EvaluationRow, EventRow, StoredRound, WorkerRow } from "./ledger.ts";
import { loadRun } from "../settings/resolveRun.ts";
import type { RunSpec } from "../settings/runSpec.ts";
import { hasLockFile, lockRun, readCoordinatorFile } from "./runLock.ts";
import { ADMIN_TOKEN_FILE } from "../edge/secret.ts";
import { listSnapshots } from "./snapshot.ts";

export type RunSummary = {
  readonly name: string;
  /** `running`: a coordinator serves it, at `url`. */
  readonly state: "running" | "paused" | "finished" | "stopped" | "new" | "unreadable";
  readonly url: string | null;
  /** The operator's pause, or what cannot be read. */
  readonly reason: string;
  readonly version: number;
  readonly steps: number;
  readonly tokens: number;
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  /** Of the newest round; null before the first. */
  readonly lastRoundMs: number | null;
};

export type RunDetails = RunSummary & {
  readonly spec: RunSpec;
  readonly lastRound: StoredRound | null;
  readonly lastEvaluation: EvaluationRow | null;
  readonly snapshots: readonly { readonly version: number; readonly hash: string }[];
  /** Seen last first. */
  readonly workers: readonly Omit<WorkerRow, "secret">[];
  readonly events: readonly EventRow[];
};

/** How many of the newest events are shown. */
const EVENTS_SHOWN = 10;

/** In the order of their names. Folders that are no runs are passed over; a run that cannot be read is listed as such. */
export async function listRuns(runsDir: string): Promise<readonly RunSummary[]> {
  const names = await readdir(runsDir).catch(() => []);
  const runs = names.filter((name) => existsSync(join(runsDir, name, "run.yaml"))).sort((a, b) => a.localeCompare(b));
  return Promise.all(
    runs.map((name) =>
      showRun(join(runsDir, name)).catch((error: Error): RunSummary => {
        const none = {
          url: null,
          version: 0,
          steps: 0,
          tokens: 0,
          trainLoss: null,
          validationLoss: null,
          lastRoundMs: null,
        };
        return { name, state: "unreadable", reason: error.message, ...none };
      }),
    ),
  );
}

/** @throws OperatorError when there is no such run. */
export async function showRun(runDir: string): Promise<RunDetails> {
  const { spec } = await loadRun(runDir);
  const url = whoServes(runDir)?.url ?? null;
  const file = join(runDir, LEDGER_FILE);
  const ledger = existsSync(file) ? readLedger(file) : null;
  try {
    const lastRound = ledger?.lastRound() ?? null;
    const lastEvaluation = ledger?.lastEvaluation() ?? null;
    const version = lastRound?.version ?? 0;
    const paused = ledger?.pause() ?? null;
    const snapshotDir = join(runDir, "snapshots");
    const snapshots = existsSync(snapshotDir) ? await listSnapshots(snapshotDir) : [];
    const stopped = version >= spec.steps ? "finished" : version === 0 ? "new" : "stopped";
    return {
      name: spec.name,
      state: paused !== null ? "paused" : url !== null ? "running" : stopped,
      url,
      reason: paused ?? "",
      version,
      steps: spec.steps,
      tokens: ledger?.tokens() ?? 0,
      trainLoss: lastRound === null ? null : lastRound.lossSum / lastRound.tokens,
      validationLoss: lastEvaluation === null ? null : lastEvaluation.lossSum / lastEvaluation.tokens,
      lastRoundMs: lastRound?.committedMs ?? null,
      spec,
      lastRound,
      lastEvaluation,
      snapshots: snapshots.map(({ version: at, hash }) => ({ version: at, hash })),
      workers: (ledger?.workers() ?? []).map(({ id, kind, name, backend, lastSeenMs }) => ({
        id,
        kind,
        name,
        backend,
        lastSeenMs,
      })),
      events: ledger?.events(EVENTS_SHOWN) ?? [],
    };
  } finally {
    ledger?.close();
  }
}

/**
 * Pauses a run with that reason, or ends the pause (null): by its coordinator where one serves it, in its ledger where not,
 * so that it begins that way. Resolves to what was done, in words.
 */
export async function setPause(runDir: string, reason: string | null): Promise<string> {
  const { spec } = await loadRun(runDir);
  const lock = lockRun(runDir);
  if (lock === null) {
    await ask(runDir, reason === null ? "resume" : "pause", reason === null ? {} : { reason });
    return `run "${spec.name}" ${reason === null ? "goes on" : "is paused"}`;
  }
  try {
    const ledger = openLedger(join(runDir, LEDGER_FILE));
    ledger.rememberPause(reason);
    ledger.close();
    return `run "${spec.name}" is not being served; ${reason === null ? "it will go on" : "it will be paused"} when it is started`;
  } finally {
    lock.release();
  }
}

/** Removes a run's folder. @throws OperatorError while a coordinator serves it. */
export async function deleteRun(runDir: string): Promise<void> {
  const { spec } = await loadRun(runDir);
  const lock = lockRun(runDir);
  if (lock === null) {
    throw new OperatorError(
      `${spec.name}: is being served${whereServed(runDir)}; must be stopped before it is deleted`,
    );
  }
  try {
    // Without it the folder is no run: what an interrupted delete leaves is not taken for one.
    await rm(join(runDir, "run.yaml"));
    await rm(runDir, { recursive: true });
  } finally {
    lock.release();
  }
}

/** Where a run's coordinator is reached from this machine, empty while it starts; null when nobody serves the run. */
export function whoServes(runDir: string): { url: string } | null {
  if (!hasLockFile(runDir)) return null;
  const lock = lockRun(runDir, { patienceMs: 0 });
  if (lock === null) return readCoordinatorFile(runDir) ?? { url: "" };
  lock.release();
  return null;
}

function whereServed(runDir: string): string {
  const file = readCoordinatorFile(runDir);
  return file === null ? "" : ` (process ${file.pid}, ${file.url})`;
}

/** How long a coordinator may take to answer. */
const ANSWER_MS = 10_000;

async function ask(runDir: string, what: "pause" | "resume", body: object): Promise<void> {
  const served = readCoordinatorFile(runDir);
  if (served === null) throw new OperatorError(`${runDir}: its coordinator is just starting; try again in a moment`);
  const token = process.env["MANYHANDS_ADMIN_TOKEN"] ?? readToken(runDir);
  const url = `${served.url}/admin/${what}`;
  const response = await fetch(url, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch((error: Error) => {
    const cause = error.cause instanceof Error ? error.cause.message : error.message;
    throw new OperatorError(`${url}: no answer (${cause}); must be the run's coordinator`);
  });
  if (response.ok) return;
  const answer = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  throw new OperatorError(`${url}: ${answer?.error?.message ?? `answered ${response.status}`}`);
}

function readToken(runDir: string): string {
  const path = join(runDir, ADMIN_TOKEN_FILE);
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    throw new OperatorError(`${path}: cannot be read; must hold the admin token, or give it as MANYHANDS_ADMIN_TOKEN`);
  }
}
