/** @file The programs of a folder by their names, each run by `npm run … -- NAME`: which machine it runs on stands above its numbers. */
import { readdirSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";

/** Runs the program that the command line names, `run(args)` of its file; null, with a line and exit code 2, when there is none. */
export async function launch<Result>(folder: string, kind: string): Promise<{ readonly result: Result } | null> {
  const names = readdirSync(folder)
    .filter((file) => file.endsWith(".ts") && file !== "main.ts" && !file.startsWith("_"))
    .map((file) => file.slice(0, -3))
    .sort();
  const [name, ...args] = process.argv.slice(2);
  if (name === undefined || !names.includes(name)) {
    process.stderr.write(`error: ${kind} ${name ?? "(none)"}: must be one of ${names.join(", ")}\n`);
    process.exitCode = 2;
    return null;
  }
  const model = cpus()[0]?.model ?? "unknown processor";
  const date = new Date().toISOString().slice(0, 10);
  process.stdout.write(
    `${name} on ${model.trim()}, ${availableParallelism()} cores, Node ${process.version}, ${date}\n\n`,
  );
  const program = (await import(join(folder, `${name}.ts`))) as { run: (args: readonly string[]) => Promise<Result> };
  return { result: await program.run(args) };
}
