/** @file `npm run bench -- NAME`: every number in the README is made by one of these. */
import { availableParallelism, cpus } from "node:os";
import { readdirSync } from "node:fs";

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts" && !file.startsWith("_"))
  .map((file) => file.slice(0, -3))
  .sort();
const [name, ...args] = process.argv.slice(2);

if (name === undefined || !names.includes(name)) {
  process.stderr.write(`error: benchmark ${name ?? "(none)"}: must be one of ${names.join(", ")}\n`);
  process.exitCode = 2;
} else {
  const model = cpus()[0]?.model ?? "unknown processor";
  const date = new Date().toISOString().slice(0, 10);
  process.stdout.write(
    `${name} on ${model.trim()}, ${availableParallelism()} cores, Node ${process.version}, ${date}\n\n`,
  );
  const benchmark = (await import(`./${name}.ts`)) as { run: (args: readonly string[]) => Promise<void> };
  await benchmark.run(args);
}
