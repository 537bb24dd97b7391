/** @file Where a run's coordinator is reached while it runs: runs/NAME/coordinator.json, for other programs on this machine. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";

export type Running = { readonly pid: number; readonly url: string };

const RUNNING_FILE = "coordinator.json";

const schema = z.object({ pid: z.int().positive(), url: z.string() });

/** Call what is returned when this coordinator stops. */
export function announceRunning(runDir: string, url: string): () => void {
  const file = join(runDir, RUNNING_FILE);
  const running: Running = { pid: process.pid, url };
  writeFileSync(`${file}.partial`, `${JSON.stringify(running)}\n`);
  renameSync(`${file}.partial`, file);
  return () => rmSync(file, { force: true });
}

/** Null when no coordinator of this run is alive; one that was killed leaves its file behind. */
export function readRunning(runDir: string): Running | null {
  try {
    const running = schema.parse(JSON.parse(readFileSync(join(runDir, RUNNING_FILE), "utf8")));
    process.kill(running.pid, 0);
    return running;
  } catch {
    // No file, half of one, or no such process: all mean the same.
    return null;
  }
}
