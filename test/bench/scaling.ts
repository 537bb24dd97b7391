/**
 * @file Tokens per second and efficiency for 1 … cores Node workers of one thread each, real processes over loopback; and the
 * coordinator's overhead: the part of a round that the worker's engine does not compute, and how much of that is the step (from
 * the last addition until optimizer and journal are done). The rest is the last contribution's and the update's way, the ledger,
 * and what workers do between units. Counts alternate, because a shared machine's speed wanders.
 *
 *     npm run bench -- scaling [--max-workers N] [--steps 40] [--repeat 3] [--batch 96] [--unit 12] [--codec f32] [--preset tiny]
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";
import * as echarts from "echarts";
import { trainToTheEnd } from "./_train.ts";

/** The first rounds warm caches and measure speeds. */
const WARM_ROUNDS = 10;

/** `overhead` and `step`: parts of the rounds' time. */
type Measurement = { readonly tokensPerSecond: number; readonly overhead: number; readonly step: number };

export async function run(args: readonly string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      "max-workers": { type: "string", default: String(availableParallelism()) },
      steps: { type: "string", default: "40" },
      repeat: { type: "string", default: "3" },
      batch: { type: "string", default: "96" },
      unit: { type: "string", default: "12" },
      codec: { type: "string", default: "f32" },
      preset: { type: "string", default: "tiny" },
      "no-strict": { type: "boolean", default: false },
    },
  });
  const maxWorkers = Number(flags["max-workers"]);
  const work = mkdtempSync(join(tmpdir(), "manyhands-scaling-"));
  const measured = new Map<number, Measurement[]>();
  try {
    for (let repeat = 0; repeat < Number(flags.repeat); repeat++) {
      for (let workers = 1; workers <= maxWorkers; workers++) {
        const name = `w${workers}-${repeat}`;
        const strict = flags["no-strict"] ? "--no-strict" : "--strict";
        await trainToTheEnd([
          ...["--run", name, "--runs-dir", join(work, "runs"), "--data-dir", join(work, "data"), "--port", "0"],
          ...["--preset", flags.preset, "--batch", flags.batch, "--unit", flags.unit, "--codec", flags.codec, strict],
          ...["--steps", flags.steps, "--workers", String(workers), "--threads", "1"],
          ...["--evaluate-every", "0", "--final-evaluation-samples", "1"],
        ]);
        const result = measure(join(work, "runs", name, "ledger.sqlite"));
        measured.set(workers, [...(measured.get(workers) ?? []), result]);
        process.stdout.write(`${workers} worker(s): ${Math.round(result.tokensPerSecond)} tokens/s\n`);
      }
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const shape = `${flags.preset}, batch ${flags.batch}, unit ${flags.unit}, ${flags.codec}${flags["no-strict"] ? ", folded" : ", strict"}`;
  process.stdout.write(`\n${shape}: medians of ${flags.repeat}\n\n`);
  process.stdout.write(
    "| workers | tokens/s | efficiency | round time not spent computing | of it the step |\n|---|---|---|---|---|\n",
  );
  const rows = [...measured].map(([workers, results]) => ({
    workers,
    tokensPerSecond: median(results.map((result) => result.tokensPerSecond)),
    overhead: median(results.map((result) => result.overhead)),
    step: median(results.map((result) => result.step)),
  }));
  const one = rows[0]?.tokensPerSecond ?? NaN;
  for (const { workers, tokensPerSecond, overhead, step } of rows) {
    const efficiency = tokensPerSecond / one / workers;
    process.stdout.write(
      `| ${workers} | ${Math.round(tokensPerSecond)} | ${percent(efficiency)} | ${percent(overhead)} | ${percent(step)} |\n`,
    );
  }
  const chart = resolve(import.meta.dirname, "../../docs/img/scaling.svg");
  writeFileSync(chart, draw(rows, shape));
  process.stdout.write(`\nchart: ${chart}\n`);
}

function measure(file: string): Measurement {
  const database = new DatabaseSync(file, { readOnly: true });
  const sums = database
    .prepare(
      "SELECT SUM(tokens) AS tokens, SUM(roundMs) AS roundMs, SUM(computeMs) AS computeMs, SUM(commitMs) AS commitMs FROM round WHERE version > ?",
    )
    .get(WARM_ROUNDS) as { tokens: number; roundMs: number; computeMs: number; commitMs: number };
  database.close();
  const { tokens, roundMs, computeMs, commitMs } = sums;
  return { tokensPerSecond: (tokens / roundMs) * 1000, overhead: 1 - computeMs / roundMs, step: commitMs / roundMs };
}

function draw(rows: readonly { workers: number; tokensPerSecond: number }[], shape: string): string {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: 640, height: 360 });
  const one = rows[0]?.tokensPerSecond ?? 0;
  chart.setOption({
    animation: false,
    title: { text: "Tokens per second by number of workers", subtext: shape, left: "center" },
    legend: { bottom: 0 },
    grid: { left: 70, right: 30, top: 70, bottom: 60 },
    xAxis: {
      type: "category",
      data: rows.map(({ workers }) => workers),
      name: "workers",
      nameLocation: "middle",
      nameGap: 24,
    },
    yAxis: { type: "value", name: "tokens/s" },
    series: [
      { name: "measured", type: "bar", data: rows.map(({ tokensPerSecond }) => Math.round(tokensPerSecond)) },
      {
        name: "ideal",
        type: "line",
        data: rows.map(({ workers }) => Math.round(one * workers)),
        lineStyle: { type: "dashed" },
      },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
