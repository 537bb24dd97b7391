/** @file The real program, `worker-node/main.ts`, as a child process. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

export type WorkerProcess = {
  readonly child: ChildProcess;
  readonly name: string;
  readonly output: () => string;
  readonly exit: Promise<number | null>;
};

export function startWorker(url: string, name: string, flags: readonly string[] = []): WorkerProcess {
  const child = spawn(process.execPath, [join(root, "worker-node/main.ts"), "--url", url, "--name", name, ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const onOutput = (data: Buffer): void => {
    // Its last words are what matters.
    output = (output + data.toString()).slice(-20_000);
  };
  child.stdout.on("data", onOutput);
  child.stderr.on("data", onOutput);
  return { child, name, output: () => output, exit: once(child, "exit").then(([code]) => code as number | null) };
}
