/**
 * @file Tokens per second and efficiency for 1, 2, 4 and 8 workers in containers, each limited to the same small share of a
 * processor, so that one machine stands for several. The coordinator is not limited.
 *
 *     npm run bench -- containers [--cpus 0.15] [--workers 1,2,4,8] [--batch 768] [--unit 3] [--preset tiny] [--codec f32]
 *                                 [--repeat 2] [--seconds 60]
 *
 * One run goes on all the time; workers join it until the last count is reached, and leave again: up, down, up, … `--repeat`
 * times, so that a machine whose speed wanders does so under each count. What is shown are medians.
 * Needs an engine (deploy/ci/start-engine.sh) and both images.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import * as echarts from "echarts";
import type { StartedTestContainer } from "testcontainers";
import { startCluster } from "../../deploy/testing/cluster.ts";
import type { Cluster } from "../../deploy/testing/cluster.ts";
import type { Status } from "../../shared/wire/status.ts";
import { cpuSeconds } from "../support/containers.ts";

type Row = {
  readonly workers: number;
  readonly tokensPerSecond: number;
  /** Part of the time that the workers' containers used their share of a processor. */
  readonly used: number;
  /** Processors that the coordinator used. */
  readonly coordinatorCpus: number;
  readonly load: number;
};

/** Starting up is not what is measured: full speed until a worker is ready. */
const FULL_CPUS = "2";

const START_MS = 300_000;

/** A round of one worker may take minutes. */
const ROUNDS_MS = 600_000;

/** Measured at least, whatever `--seconds`: one round says little. */
const MIN_ROUNDS = 2;

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      cpus: { type: "string", default: "0.15" },
      workers: { type: "string", default: "1,2,4,8" },
      batch: { type: "string", default: "768" },
      unit: { type: "string", default: "3" },
      preset: { type: "string", default: "tiny" },
      codec: { type: "string", default: "f32" },
      repeat: { type: "string", default: "2" },
      seconds: { type: "string", default: "60" },
    },
  });
  const { cpus, batch, unit, preset, codec } = flags;
  const counts = flags.workers.split(",").map(Number);
  const measured: Row[] = [];
  const spec = ["--tokenizer", "char", "--preset", preset, "--batch", batch, "--unit", unit, "--codec", codec];
  const cluster = await startCluster({
    workers: 0,
    flags: [...spec, "--no-strict", "--steps", "100000", "--evaluate-every", "0"],
  });
  try {
    const working: StartedTestContainer[] = [];
    for (let repeat = 0; repeat < Number(flags.repeat); repeat++) {
      for (const count of repeat % 2 === 0 ? counts : counts.toReversed()) {
        const begin = await bringTo(count, cluster, working, cpus);
        const row = await measure(begin, cluster, working, Number(cpus), Number(flags.seconds));
        measured.push(row);
        process.stdout.write(`${describe(row)}\n`);
      }
    }
  } finally {
    await cluster.stop();
  }
  const rows = counts.map((count) => medians(measured.filter(({ workers }) => workers === count)));
  const shape = `${preset}, batch ${batch}, unit ${unit}, ${codec}, folded, ${cpus} CPU each`;
  process.stdout.write(`\n${shape}; medians of ${flags.repeat}\n\n| workers | tokens/s | efficiency | share used | coordinator CPUs | load |\n`); // prettier-ignore
  process.stdout.write("|---|---|---|---|---|---|\n");
  const { tokensPerSecond: one, workers: first } = rows[0]!;
  for (const { workers, tokensPerSecond, used, coordinatorCpus, load } of rows) {
    const efficiency = ((100 * tokensPerSecond) / workers / (one / first)).toFixed(1);
    process.stdout.write(`| ${workers} | ${tokensPerSecond.toFixed(0)} | ${efficiency} % | ${(100 * used).toFixed(0)} % | ${coordinatorCpus.toFixed(2)} | ${load.toFixed(1)} |\n`); // prettier-ignore
  }
  const chart = resolve(import.meta.dirname, "../../docs/img/containers.svg");
  writeFileSync(chart, draw(rows, shape));
  process.stdout.write(`\nchart: ${chart}\n`);
}

/** Starts or stops workers until there are so many, each at its share. Resolves at the end of a round. */
async function bringTo(
  count: number,
  cluster: Cluster,
  working: StartedTestContainer[],
  cpus: string,
): Promise<Status> {
  while (working.length > count) await working.pop()!.stop({ timeout: 10_000 });
  while (working.length < count) {
    const container = await cluster.startWorker(`worker-${working.length + 1}`, { cpus: Number(FULL_CPUS) });
    working.push(container);
    await cluster.until(
      (status) => status.workers.filter(({ state }) => state === "ready").length === working.length,
      START_MS,
    );
    limit(container, cpus);
  }
  // The round under way, and one in which every speed is measured at its share.
  const { version } = await cluster.status();
  return cluster.until((status) => status.version >= version + 2, ROUNDS_MS);
}

async function measure(
  begin: Status,
  cluster: Cluster,
  working: readonly StartedTestContainer[],
  cpus: number,
  seconds: number,
): Promise<Row> {
  const beginMs = performance.now();
  const cpuBefore = working.map((container) => cpuSeconds(container.getId()));
  const coordinatorBefore = cpuSeconds(cluster.coordinator.getId());
  let end = begin;
  for (let rounds = 1; rounds <= MIN_ROUNDS || performance.now() - beginMs < 1000 * seconds; rounds++) {
    const { version: last } = end;
    end = await cluster.until((status) => status.version > last, ROUNDS_MS);
  }
  const elapsed = (performance.now() - beginMs) / 1000;
  const workerCpu = working.reduce((sum, container, i) => sum + cpuSeconds(container.getId()) - cpuBefore[i]!, 0);
  return {
    workers: working.length,
    tokensPerSecond: (end.tokens - begin.tokens) / elapsed,
    used: workerCpu / elapsed / working.length / cpus,
    coordinatorCpus: (cpuSeconds(cluster.coordinator.getId()) - coordinatorBefore) / elapsed,
    load: loadavg()[0]!,
  };
}

function describe({ workers, tokensPerSecond, used, coordinatorCpus, load }: Row): string {
  return `${workers} worker(s): ${tokensPerSecond.toFixed(1)} tokens/s, ${(100 * used).toFixed(0)} % of the share used, coordinator ${coordinatorCpus.toFixed(2)} CPUs, load ${load.toFixed(1)}`;
}

function medians(rows: readonly Row[]): Row {
  const of = (pick: (row: Row) => number): number => {
    const sorted = rows.map(pick).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  };
  return {
    workers: rows[0]!.workers,
    tokensPerSecond: of((row) => row.tokensPerSecond),
    used: of((row) => row.used),
    coordinatorCpus: of((row) => row.coordinatorCpus),
    load: of((row) => row.load),
  };
}

function limit(container: StartedTestContainer, cpus: string): void {
  execFileSync("docker", ["update", "--cpus", cpus, container.getId()], { stdio: "ignore" });
}

function draw(rows: readonly Row[], shape: string): string {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: 640, height: 360 });
  const one = rows[0]!.tokensPerSecond / rows[0]!.workers;
  chart.setOption({
    animation: false,
    title: { text: "Tokens per second by containers of equal share", subtext: shape, left: "center" },
    legend: { bottom: 0 },
    grid: { left: 70, right: 30, top: 70, bottom: 60 },
    xAxis: { type: "category", data: rows.map(({ workers }) => workers), name: "workers", nameLocation: "middle", nameGap: 24 }, // prettier-ignore
    yAxis: { type: "value", name: "tokens/s" },
    series: [
      { name: "measured", type: "bar", data: rows.map(({ tokensPerSecond }) => Math.round(tokensPerSecond)) },
      { name: "ideal", type: "line", data: rows.map(({ workers }) => Math.round(one * workers)), lineStyle: { type: "dashed" } }, // prettier-ignore
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
