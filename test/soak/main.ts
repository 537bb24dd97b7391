/** @file `npm run soak -- NAME`: faults for hours instead of seconds; each prints its numbers and fails when one is out of bounds. */
import { readdirSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts" && !file.startsWith("_"))
  .map((file) => file.slice(0, -3))
  .sort();
const [name, ...args] = process.argv.slice(2);

if (name === undefined || !names.includes(name)) {
  process.stderr.write(`error: soak ${name ?? "(none)"}: must be one of ${names.join(", ")}\n`);
  process.exitCode = 2;
} else {
  const model = cpus()[0]?.model ?? "unknown processor";
  const date = new Date().toISOString().slice(0, 10);
  process.stdout.write(
    `${name} on ${model.trim()}, ${availableParallelism()} cores, Node ${process.version}, ${date}\n\n`,
  );
  const soak = (await import(`./${name}.ts`)) as { run: (args: readonly string[]) => Promise<boolean> };
  const passed = await soak.run(args);
  process.stdout.write(passed ? "\npassed\n" : "\nFAILED\n");
  if (!passed) process.exitCode = 1;
}
