/**
 * @file Tokens per second and efficiency for 1, 2, 4 and 8 workers in containers, each limited to the same small share of a
 * processor, so that one machine stands for several; and the memory that the containers take.
 *
 *     npm run bench -- containers [--cpus 0.08] [--workers 1,2,4,8] [--batch 768] [--unit 3] [--preset tiny] [--codec f32]
 *
 * Needs an engine (deploy/ci/start-engine.sh) and both images.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import * as echarts from "echarts";
import type { StartedTestContainer } from "testcontainers";
import { startCluster } from "../../deploy/testing/cluster.ts";
import "../support/containers.ts";

type Row = {
  readonly workers: number;
  readonly tokensPerSecond: number;
  readonly load: number;
  /** Largest anonymous memory of a worker, of the coordinator, MB. */
  readonly workerMb: number;
  readonly coordinatorMb: number;
};

/** Starting up is not what is measured: full speed until a worker is ready. */
const FULL_CPUS = "2";

const START_MS = 300_000;

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      cpus: { type: "string", default: "0.08" },
      workers: { type: "string", default: "1,2,4,8" },
      batch: { type: "string", default: "768" },
      unit: { type: "string", default: "3" },
      preset: { type: "string", default: "tiny" },
      codec: { type: "string", default: "f32" },
    },
  });
  const rows: Row[] = [];
  for (const workers of flags.workers.split(",").map(Number)) {
    const row = await measure(workers, flags);
    rows.push(row);
    process.stdout.write(
      `${workers} worker(s): ${row.tokensPerSecond.toFixed(1)} tokens/s, load ${row.load.toFixed(1)}\n`,
    );
  }
  const shape = `${flags.preset}, batch ${flags.batch}, unit ${flags.unit}, ${flags.codec}, folded, ${flags.cpus} CPU each`;
  process.stdout.write(`\n${shape}\n\n| workers | tokens/s | efficiency | worker MB | coordinator MB | load |\n`);
  process.stdout.write("|---|---|---|---|---|---|\n");
  const { tokensPerSecond: one, workers: first } = rows[0]!;
  for (const { workers, tokensPerSecond, workerMb, coordinatorMb, load } of rows) {
    const efficiency = ((100 * tokensPerSecond) / workers / (one / first)).toFixed(1);
    process.stdout.write(`| ${workers} | ${tokensPerSecond.toFixed(0)} | ${efficiency} % | ${workerMb.toFixed(0)} | ${coordinatorMb.toFixed(0)} | ${load.toFixed(1)} |\n`); // prettier-ignore
  }
  const chart = resolve(import.meta.dirname, "../../docs/img/containers.svg");
  writeFileSync(chart, draw(rows, shape));
  process.stdout.write(`\nchart: ${chart}\n`);
}

async function measure(
  workers: number,
  { cpus, batch, unit, preset, codec }: { cpus: string; batch: string; unit: string; preset: string; codec: string },
): Promise<Row> {
  const flags = ["--tokenizer", "char", "--preset", preset, "--batch", batch, "--unit", unit, "--codec", codec];
  const cluster = await startCluster({
    workers: 0,
    flags: [...flags, "--no-strict", "--steps", "100000", "--evaluate-every", "0"],
  });
  try {
    const containers: StartedTestContainer[] = [];
    for (let index = 1; index <= workers; index++) {
      const container = await cluster.startWorker(`worker-${index}`, { cpus: Number(FULL_CPUS) });
      await cluster.until(
        (status) => status.workers.filter(({ state }) => state === "ready").length === index,
        START_MS,
      );
      containers.push(container);
      limit(container, cpus);
    }
    // The round under way, and one in which every speed is measured at its share.
    const { version } = await cluster.status();
    const begin = await cluster.until((status) => status.version >= version + 2, START_MS);
    const beginMs = performance.now();
    const end = await cluster.until((status) => status.version >= begin.version + Math.max(2, workers), START_MS);
    const seconds = (performance.now() - beginMs) / 1000;
    return {
      workers,
      tokensPerSecond: (end.tokens - begin.tokens) / seconds,
      load: loadavg()[0]!,
      workerMb: Math.max(...containers.map(anonymousMb)),
      coordinatorMb: anonymousMb(cluster.coordinator),
    };
  } finally {
    await cluster.stop();
  }
}

function limit(container: StartedTestContainer, cpus: string): void {
  execFileSync("docker", ["update", "--cpus", cpus, container.getId()], { stdio: "ignore" });
}

/** What the process holds beyond files that the machine could read again: RssAnon of its first process. */
function anonymousMb(container: StartedTestContainer): number {
  const pid = execFileSync("docker", ["inspect", "--format", "{{.State.Pid}}", container.getId()], {
    encoding: "utf8",
  });
  const status = readFileSync(`/proc/${pid.trim()}/status`, "utf8");
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)?.[1]) / 1000;
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
