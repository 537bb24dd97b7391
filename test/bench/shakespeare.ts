/**
 * @file nanoGPT's CPU configuration on tinyshakespeare (characters), with 1 worker and with 4: loss on the whole validation
 * split at every evaluation. The same recipe in PyTorch reaches 1.903; nanoGPT's README says 1.88 on 20 random batches.
 *
 *     npm run bench -- shakespeare [--text FILE] [--steps 2000] [--workers 1,4] [--codec f32]
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";
import { trainToTheEnd } from "./_train.ts";

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      text: { type: "string", default: resolve(import.meta.dirname, "../../../shared/data/tinyshakespeare.txt") },
      steps: { type: "string", default: "2000" },
      workers: { type: "string", default: "1,4" },
      codec: { type: "string", default: "f32" },
    },
  });
  if (!existsSync(flags.text)) {
    process.stdout.write(`skipped: ${flags.text} is not there; --text FILE names tinyshakespeare.txt\n`);
    return;
  }
  const work = mkdtempSync(join(tmpdir(), "manyhands-shakespeare-"));
  const curves = new Map<string, { version: number; loss: number }[]>();
  try {
    for (const workers of flags.workers.split(",")) {
      const startMs = performance.now();
      await trainToTheEnd([
        ...["--run", `w${workers}`, "--runs-dir", join(work, "runs"), "--data-dir", join(work, "data"), "--port", "0"],
        ...["--text", flags.text, "--tokenizer", "char", "--preset", "tiny", "--sampling", "random"],
        ...["--batch", "12", "--unit", "3", "--codec", flags.codec, "--strict", "--seed", "1337"],
        ...["--steps", flags.steps, "--workers", workers, "--threads", "1"],
        ...["--learning-rate", "1e-3", "--min-learning-rate", "1e-4", "--warmup", "100", "--beta1", "0.9", "--beta2"],
        ...["0.99", "--weight-decay", "0.1", "--clip-norm", "1"],
        ...["--evaluate-every", "250", "--evaluation-samples", "all", "--final-evaluation-samples", "all"],
      ]);
      const seconds = (performance.now() - startMs) / 1000;
      curves.set(workers, readCurve(join(work, "runs", `w${workers}`, "ledger.sqlite")));
      process.stdout.write(`${workers} worker(s): ${seconds.toFixed(0)} s\n`);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const columns = [...curves.keys()];
  process.stdout.write(`\n| step | ${columns.map((workers) => `${workers} worker(s)`).join(" | ")} |\n`);
  process.stdout.write(`|---|${columns.map(() => "---|").join("")}\n`);
  const first = curves.get(columns[0] ?? "") ?? [];
  let largest = 0;
  for (const [index, { version, loss }] of first.entries()) {
    const losses = columns.map((workers) => curves.get(workers)?.[index]?.loss ?? NaN);
    largest = Math.max(largest, ...losses.map((other) => Math.abs(other - loss)));
    process.stdout.write(`| ${version} | ${losses.map((value) => value.toFixed(4)).join(" | ")} |\n`);
  }
  process.stdout.write(`\nlargest difference between the curves: ${largest.toFixed(4)}\n`);
}

function readCurve(file: string): { version: number; loss: number }[] {
  const database = new DatabaseSync(file, { readOnly: true });
  const rows = database.prepare("SELECT version, lossSum / tokens AS loss FROM evaluation ORDER BY version").all();
  database.close();
  return rows as { version: number; loss: number }[];
}
