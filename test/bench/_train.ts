/** @file The real program, run to its end, for benchmarks. */
import { spawn } from "node:child_process";
import { resolve } from "node:path";

/** @throws Error with what it printed when it does not end well. */
export function trainToTheEnd(flags: readonly string[]): Promise<void> {
  const main = resolve(import.meta.dirname, "../../coordinator/main.ts");
  const child = spawn(process.execPath, ["--external-memory-accounted-in-global-limit", main, ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let problem = "";
  child.stderr.on("data", (data: Buffer) => (problem += data.toString()));
  return new Promise((done, fail) => {
    child.on("error", fail);
    child.on("exit", (code) => (code === 0 ? done() : fail(new Error(`coordinator ended with ${code}: ${problem}`))));
  });
}
