/**
 * @file [I5] Thousands of rounds with a worker dying in each: the coordinator's heap and memory stay where they are, and no lease,
 * socket, timer or file is left.
 *
 *     npm run soak -- leaks [--rounds 2500] [--sample-every 50]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { smallCorpus, smallRun } from "../support/coordinatorProcess.ts";
import { leakRun, slopeOf } from "../support/leakRun.ts";
import type { LeakSample } from "../support/leakRun.ts";

/** The first rounds fill caches that have bounds: compiled code, SQLite's pages, the dashboard's past, prom-client's labels. */
const WARM_PART = 0.3;

/** A connection that is kept has several kilobytes by its socket and buffers alone; caches and compiled code wander by half a megabyte. */
const MAX_HEAP_SLOPE = 512;
const MAX_EXTERNAL_SLOPE = 512;

/** The allocator's pages come and go by the megabyte. */
const MAX_RSS_SLOPE = 2048;

export async function run(args: readonly string[]): Promise<boolean> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: { rounds: { type: "string", default: "2500" }, "sample-every": { type: "string", default: "50" } },
  });
  const dir = mkdtempSync(join(tmpdir(), "manyhands-leaks-"));
  try {
    process.stdout.write(
      "| rounds with a death | heap, KiB | external, KiB | RSS, KiB | files | leases | workers | resources |\n",
    );
    process.stdout.write("|---|---|---|---|---|---|---|---|\n");
    const samples = await leakRun({
      flags: [
        ...["--run", "leaks", ...smallRun(dir, smallCorpus(dir)), "--steps", "1000000", "--evaluate-every", "0"],
        ...["--schedule", "wsd", "--warmup", "10", "--snapshot-every", "200"],
      ],
      deaths: Number(flags.rounds),
      sampleEvery: Number(flags["sample-every"]),
      onSample: (sample) => process.stdout.write(`${row(sample)}\n`),
    });
    return judge(samples.filter(({ deaths }) => deaths >= WARM_PART * Number(flags.rounds)));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function judge(samples: readonly LeakSample[]): boolean {
  const [first, last] = [samples[0]!, samples.at(-1)!];
  const slopes: readonly (readonly [string, number, number])[] = [
    ["heap, bytes per round", slopeOf(samples, ({ heapBytes }) => heapBytes), MAX_HEAP_SLOPE],
    ["external, bytes per round", slopeOf(samples, ({ externalBytes }) => externalBytes), MAX_EXTERNAL_SLOPE],
    ["RSS, bytes per round", slopeOf(samples, ({ rssBytes }) => rssBytes), MAX_RSS_SLOPE],
    ["files, first to last", last.files - first.files, 2],
    ["timers and sockets, first to last", countOf(last) - countOf(first), 2],
    ["workers at the end", last.workers, 1],
    ["leases at the end: at most one a unit of the round", last.leases, 8],
  ];
  process.stdout.write(`\nfrom round ${first.deaths} on:\n\n| what | measured | at most |\n|---|---|---|\n`);
  for (const [what, value, limit] of slopes) process.stdout.write(`| ${what} | ${value.toFixed(1)} | ${limit} |\n`);
  return slopes.every(([, value, limit]) => value <= limit);
}

function row({ deaths, heapBytes, externalBytes, rssBytes, files, leases, workers, resources }: LeakSample): string {
  const kinds = Object.entries(resources).sort(([a], [b]) => (a < b ? -1 : 1)).map(([kind, count]) => `${count} ${kind}`).join(", "); // prettier-ignore
  return `| ${deaths} | ${kib(heapBytes)} | ${kib(externalBytes)} | ${kib(rssBytes)} | ${files} | ${leases} | ${workers} | ${kinds} |`;
}

function countOf({ resources }: LeakSample): number {
  return Object.values(resources).reduce((sum, count) => sum + count, 0);
}

function kib(bytes: number): string {
  return Math.round(bytes / 1024).toLocaleString("en-US");
}
