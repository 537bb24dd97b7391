/**
 * @file [I5] [I6] A real run with honest workers under attack: fuzzed frames, a slow-loris, floods of connects, readers that do
 * not read. Each attack alternates with peace, so that honest throughput is compared within one run on the same machine.
 *
 * Attackers have machines of their own elsewhere: here they must not compute on the honest workers' core, or that is what is
 * measured. So the workers have one core to themselves, and the coordinator shares the others with the attackers, which run at a
 * low priority (--nice).
 *
 *     npm run soak -- hostile [--frames 100000] [--per-second 1000] [--window 10] [--pairs 6] [--seed 1] [--nice 10]
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";
import { connectFlood, fuzz, slowLoris, slowReaders } from "../support/hostile.ts";
import type { Attack } from "../support/hostile.ts";
import { memoryProbe } from "../support/inspectMemory.ts";
import type { Memory } from "../support/inspectMemory.ts";

const MAX_LOSS = 0.1;

/** Live memory after a collection, over the whole soak. */
const MAX_HEAP_GROWTH_BYTES = 16 * 2 ** 20;

const LORIS_CONNECTIONS = 1000;

type Window = { readonly peace: number; readonly attack: number };

export async function run(args: readonly string[]): Promise<boolean> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      frames: { type: "string", default: "100000" },
      "per-second": { type: "string", default: "1000" },
      window: { type: "string", default: "10" },
      pairs: { type: "string", default: "6" },
      seed: { type: "string", default: "1" },
      nice: { type: "string", default: "10" },
    },
  });
  const [frames, perSecond, windowS, pairs, seed] = [flags.frames, flags["per-second"], flags.window, flags.pairs, flags.seed].map(Number) as [number, number, number, number, number]; // prettier-ignore
  const dir = mkdtempSync(join(tmpdir(), "manyhands-hostile-"));
  const startMs = performance.now();
  const log = (line: string): void => void process.stdout.write(`${Math.round((performance.now() - startMs) / 1000)} s: ${line}\n`); // prettier-ignore
  const coordinator = await startCoordinator(
    // A model of the default size in rounds of a few hundred milliseconds: fine enough to count in windows.
    ["--run", "attacked", ...smallRun(dir, smallCorpus(dir)), "--preset", "tiny", "--layers", "4", "--heads", "4", "--width", "128", "--context", "64", "--batch", "32", "--unit", "4", "--steps", "1000000", "--evaluate-every", "0", "--workers", "2"], // prettier-ignore
    { NODE_OPTIONS: "--inspect=127.0.0.1:0" },
  );
  try {
    const probe = await memoryProbe(coordinator.output());
    const { parameters } = await coordinator.until(({ version }) => version >= 20);
    setPriority(Number(flags.nice));
    separate(coordinator.child.pid!);
    const answer = JSON.parse(readFileSync(join(dir, "runs/attacked/examination.json"), "utf8")) as Attack["answer"];
    const attack = (signal: AbortSignal): Attack => ({ url: coordinator.url, answer, payloadBytes: 4 * parameters, seed, signal }); // prettier-ignore
    const samples: { readonly atS: number; readonly memory: Memory }[] = [];
    const sample = async (): Promise<void> => {
      samples.push({ atS: (performance.now() - startMs) / 1000, memory: await probe.measure() });
    };
    /** Tokens per second of honest workers during a window, while `work` goes on. */
    const throughput = async (work: (signal: AbortSignal) => Promise<unknown>): Promise<number> => {
      const over = new AbortController();
      const working = work(over.signal);
      // What the attack builds up is there when the measuring begins.
      await sleep(1500);
      const [before, beganMs] = [await coordinator.status(), performance.now()];
      await sleep(windowS * 1000);
      const tokens = (await coordinator.status()).tokens - before.tokens;
      const seconds = (performance.now() - beganMs) / 1000;
      over.abort();
      await working;
      await sample();
      return tokens / seconds;
    };
    const counted = { frames: 0, sessions: 0, loris: 0, connects: 0, readers: 0 };
    const attacks: Record<string, (signal: AbortSignal) => Promise<void>> = {
      "fuzzed frames": async (signal) => {
        const report = await fuzz({ ...attack(signal), frames: 1e9, perSecond, seed: seed + counted.frames });
        counted.frames += report.frames;
        counted.sessions += report.connections;
      },
      "slow-loris": async (signal) => {
        counted.loris += await slowLoris({ ...attack(signal), count: LORIS_CONNECTIONS });
      },
      "flood of connects": async (signal) => {
        counted.connects += await connectFlood({ ...attack(signal), perSecond: 300 });
      },
      "readers that do not read": async (signal) => {
        counted.readers += await slowReaders({ ...attack(signal), count: 50 });
      },
    };
    const results = new Map<string, Window[]>();
    for (const [name, work] of Object.entries(attacks)) {
      const windows: Window[] = [];
      const enough = (): boolean => windows.length >= pairs && (name !== "fuzzed frames" || counted.frames >= frames);
      for (let pair = 0; !enough(); pair++) {
        // Peace first, then attack first: what drifts on the machine favours neither.
        let [peace, under] = [0, 0];
        if (pair % 2 === 0) peace = await throughput(inPeace);
        under = await throughput(work);
        if (pair % 2 === 1) peace = await throughput(inPeace);
        windows.push({ peace, attack: under });
        log(`${name}: ${Math.round(peace)} tokens/s in peace, ${Math.round(under)} under attack; ${counted.frames} frames so far`); // prettier-ignore
      }
      results.set(name, windows);
    }
    // What was held is let go before the last look.
    await sleep(15_000);
    await sample();
    const { refusals, workers } = await coordinator.status();
    probe.close();
    coordinator.child.kill("SIGTERM");
    const code = await coordinator.exit;

    const rows: [string, string][] = [...results].map(([name, windows]) => [`honest throughput under ${name} / in peace (${windows.length} pairs of ${windowS} s)`, ratioText(windows)]); // prettier-ignore
    const losses = [...results.values()].map((windows) => 1 - ratioOf(windows));
    const first = samples[0]!.memory;
    const last = samples.at(-1)!.memory;
    const growth = last.heapUsed + last.external - first.heapUsed - first.external;
    rows.push(
      ["fuzzed frames, on so many connections", `${counted.frames}, ${counted.sessions}`],
      [`connections of the slow-loris, ${LORIS_CONNECTIONS} at a time`, String(counted.loris)],
      ["connects of the flood", String(counted.connects)],
      ["connections of readers that did not read", String(counted.readers)],
      ["heap and external after collection: first, last, slope", `${megabytes(first.heapUsed + first.external)}, ${megabytes(last.heapUsed + last.external)}, ${slopeText(samples, (memory) => memory.heapUsed + memory.external)}`], // prettier-ignore
      ["RSS: first, last, slope", `${megabytes(first.rss)}, ${megabytes(last.rss)}, ${slopeText(samples, (memory) => memory.rss)}`], // prettier-ignore
      ["refusals", Object.entries(refusals).map(([name, count]) => `${name} ${count}`).join(", ")], // prettier-ignore
      ["workers left at the end", workers.map(({ name }) => name).join(", ")],
      ["exit code of the coordinator", String(code)],
      ["took", `${Math.round((performance.now() - startMs) / 1000)} s`],
    );
    process.stdout.write("\n| what | measured |\n|---|---|\n");
    for (const [what, value] of rows) process.stdout.write(`| ${what} | ${value} |\n`);
    return code === 0 && counted.frames >= frames && Math.max(...losses) < MAX_LOSS && growth < MAX_HEAP_GROWTH_BYTES && workers.length === 2; // prettier-ignore
  } finally {
    coordinator.child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The coordinator's workers to the first core, itself and us to the others. */
function separate(coordinatorPid: number): void {
  const others = `1-${availableParallelism() - 1}`;
  const children = readFileSync(`/proc/${coordinatorPid}/task/${coordinatorPid}/children`, "utf8").trim().split(" ");
  pin(others, coordinatorPid);
  pin(others, process.pid);
  for (const child of children) pin("0", Number(child));
}

function pin(cores: string, pid: number): void {
  execFileSync("taskset", ["-acp", cores, String(pid)]);
}

async function inPeace(): Promise<void> {}

function ratioOf(windows: readonly Window[]): number {
  const sum = (pick: (window: Window) => number): number => windows.reduce((total, window) => total + pick(window), 0);
  return sum(({ attack }) => attack) / sum(({ peace }) => peace);
}

function ratioText(windows: readonly Window[]): string {
  const ratios = windows.map(({ peace, attack }) => attack / peace).sort((a, b) => a - b);
  return `${ratioOf(windows).toFixed(3)} (pairs: ${ratios[0]?.toFixed(2)} … ${ratios[ratios.length >> 1]?.toFixed(2)} … ${ratios.at(-1)?.toFixed(2)})`; // prettier-ignore
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
}

/** Least squares over time. */
function slopeText(
  samples: readonly { readonly atS: number; readonly memory: Memory }[],
  pick: (memory: Memory) => number,
): string {
  const [times, values] = [samples.map(({ atS }) => atS), samples.map(({ memory }) => pick(memory))];
  const [atMean, valueMean] = [mean(times), mean(values)];
  const covariance = times.reduce((sum, at, index) => sum + (at - atMean) * (values[index]! - valueMean), 0);
  const variance = times.reduce((sum, at) => sum + (at - atMean) ** 2, 0);
  return `${(((covariance / variance) * 60) / 2 ** 20).toFixed(2)} MB/min`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
