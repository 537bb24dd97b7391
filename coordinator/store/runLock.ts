/**
 * @file One coordinator a run: a lock that the operating system holds for the process, so that one that was killed leaves
 * none behind. SQLite takes it (an exclusive transaction on an empty file), because Node has no file locks of its own.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

export type RunLock = { readonly release: () => void };

/** Who serves a run now: left in its folder while a coordinator runs. */
export type CoordinatorFile = { readonly pid: number; readonly url: string };

const LOCK_FILE = "lock.sqlite";
const COORDINATOR_FILE = "coordinator.json";

/** A program that only looks whether the run is being served holds the lock for a moment. */
const PATIENCE_MS = 2000;

/** SQLITE_BUSY */
const BUSY = 5;

/** Null when another process holds it. @throws Error of the file system. */
export function lockRun(runDir: string, { patienceMs = PATIENCE_MS }: { patienceMs?: number } = {}): RunLock | null {
  const database = new DatabaseSync(join(runDir, LOCK_FILE), { timeout: patienceMs });
  try {
    database.exec("PRAGMA journal_mode = MEMORY");
    database.exec("BEGIN EXCLUSIVE");
    return { release: () => database.close() };
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode === BUSY) return null;
    throw error;
  }
}

/** Whether a coordinator ever served the run. */
export function hasLockFile(runDir: string): boolean {
  return existsSync(join(runDir, LOCK_FILE));
}

export function writeCoordinatorFile(runDir: string, file: CoordinatorFile): void {
  writeFileSync(join(runDir, COORDINATOR_FILE), `${JSON.stringify(file)}\n`);
}

export function removeCoordinatorFile(runDir: string): void {
  rmSync(join(runDir, COORDINATOR_FILE), { force: true });
}

/** What a coordinator left: of use only while the run is locked. Null when there is none that can be read. */
export function readCoordinatorFile(runDir: string): CoordinatorFile | null {
  try {
    const { pid, url } = JSON.parse(readFileSync(join(runDir, COORDINATOR_FILE), "utf8")) as Partial<CoordinatorFile>;
    return typeof pid === "number" && typeof url === "string" ? { pid, url } : null;
  } catch {
    return null;
  }
}
