/** @file Worker processes on this machine, children of the coordinator: started with it, restarted when they crash, ended with it. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";

export type LocalWorkers = {
  /** Asks each to leave, then insists. */
  readonly stop: () => Promise<void>;
};

/** A worker that crashes this often in a row has a reason that restarting does not mend. */
const MAX_RESTARTS = 5;

/** Doubles with every crash in a row. */
const FIRST_RESTART_MS = 500;

/** A worker that lived this long had a healthy start: its crash is the first in a row again. */
const HEALTHY_MS = 30_000;

/** For giving leases back; a step of a large model may take longer, and its result is not worth waiting for. */
const STOP_MS = 3000;

export function startLocalWorkers({
  count,
  url,
  threads,
  engine,
  ownKey,
  onProblem,
}: {
  readonly count: number;
  readonly url: string;
  readonly threads: number;
  readonly engine: string;
  /** What the coordinator knows them by. */
  readonly ownKey: string;
  /** One line that a worker printed on stderr, or what became of it. */
  readonly onProblem: (text: string) => void;
}): LocalWorkers {
  const children = new Map<number, ChildProcess>();
  const timers = new Set<NodeJS.Timeout>();
  let stopping = false;

  function start(index: number, crashes: number): void {
    const name = `local ${index + 1}`;
    const main = new URL("../worker-node/main.ts", import.meta.url).pathname;
    const flags = ["--url", url, "--threads", String(threads), "--engine", engine, "--name", name, "--quiet"];
    // In the environment: a command line can be read by every user of the machine.
    const env = { ...process.env, MANYHANDS_OWN_KEY: ownKey };
    // The channel ("ipc") ends with this process, however it ends, and the worker with the channel.
    const child = spawn(process.execPath, [...process.execArgv, main, ...flags], {
      env,
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const startedMs = performance.now();
    children.set(index, child);
    if (child.stderr !== null) {
      createInterface({ input: child.stderr }).on("line", (line) => stopping || onProblem(`${name}: ${line}`));
    }
    child.on("exit", (code, signal) => {
      children.delete(index);
      if (stopping || code === 0) return;
      const inARow = performance.now() - startedMs > HEALTHY_MS ? 1 : crashes + 1;
      onProblem(`${name} ended (${signal ?? `exit code ${code}`})`);
      if (inARow > MAX_RESTARTS) {
        onProblem(`${name} crashed ${inARow} times in a row and is not started again`);
        return;
      }
      const timer = setTimeout(
        () => {
          timers.delete(timer);
          start(index, inARow);
        },
        FIRST_RESTART_MS * 2 ** (inARow - 1),
      );
      timers.add(timer);
    });
  }

  for (let index = 0; index < count; index++) start(index, 0);
  return {
    async stop() {
      stopping = true;
      for (const timer of timers) clearTimeout(timer);
      const exits = [...children.values()].map((child) => {
        const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
        child.kill("SIGTERM");
        const insist = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
        return exited.finally(() => clearTimeout(insist));
      });
      await Promise.all(exits);
    },
  };
}
