/**
 * @file `npm run bench -- dashboard`: the operator's page in Chromium over a ledger of a million rounds, 500 workers and a round
 * every 100 ms. Time to first paint and to the drawn charts, and the main thread's work for the updates.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";
import type { Browser } from "playwright-core";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { build } from "vite";
import { dashboardRoutes } from "../../coordinator/observe/dashboardRoutes.ts";
import { serveFile } from "../../coordinator/edge/files.ts";
import { openHistory, type History } from "../../coordinator/store/history.ts";
import { openLedger, type Ledger, type RoundRow } from "../../coordinator/store/ledger.ts";
import { createLive } from "../../coordinator/observe/live.ts";
import { randomNormal, randomUniform, streamKey } from "../../shared/numerics/rng.ts";
import type { Status } from "../../shared/wire/status.ts";
import { launchChromium } from "../support/chromium.ts";
import { mainThread, TRACE_CATEGORIES, type MainThread, type TraceEvent } from "./_mainThread.ts";

const VIEWPORT = { width: 1366, height: 900 };

const WORKERS = 500;
const ROUND_MS = 100;

/** What the curves are not made of. */
const NO_LEASES = { issued: 1, leases: [], returned: [] };

/** Updates watched after the charts are drawn: in each half minute the charts are drawn once again. */
const WATCHED_SECONDS = 60;

/** The rest is little, and many. */
const SHOWN_KINDS = 16;

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({ args: [...args], options: { rounds: { type: "string", default: "1000000" } } });
  const rounds = Number(values.rounds);
  const dir = mkdtempSync(join(tmpdir(), "manyhands-bench-dashboard-"));
  try {
    await measure(rounds, dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(rounds: number, dir: string): Promise<void> {
  const pagesDir = join(dir, "pages");
  const configFile = join(import.meta.dirname, "../../vite.config.ts");
  await build({ configFile, logLevel: "error", build: { outDir: pagesDir } });
  const ledgerFile = join(dir, "ledger.sqlite");
  const ledger = openLedger(ledgerFile);
  fill(ledgerFile, rounds);

  const history = openHistory(join(dir, "history.sqlite"), ledgerFile);
  let longest = 0;
  const began = performance.now();
  for (let more = true; more;) {
    const at = performance.now();
    more = history.refresh();
    longest = Math.max(longest, performance.now() - at);
  }
  print("rounds in the ledger", rounds.toLocaleString("en-US"));
  print(
    "taking them all in, once",
    `${seconds(performance.now() - began)}, at most ${longest.toFixed(0)} ms at a time`,
  );
  print("file of the pyramid", `${(statSync(join(dir, "history.sqlite")).size / 1e6).toFixed(1)} MB`);
  print("the whole run's curves (median of 21)", `${median(Array.from({ length: 21 }, () => timeOf(() => history.curves({ from: 1, to: Infinity, points: 600 })))).toFixed(1)} ms`); // prettier-ignore
  print("taking in one more round (median of 21)", `${takeInOne(ledger, history, rounds).toFixed(2)} ms`);

  let version = rounds + 21;
  const live = createLive({ history, status: () => statusOf(version), nowMs: Date.now, process: "bench", onProblem: console.error }); // prettier-ignore
  const app = new Hono();
  const routes = dashboardRoutes({ history, live, snapshotDir: dir, offerNewest: () => ({ path: "/snapshots/x", version, hash: "0" }), parameterBytes: 4, tokenizerPath: "/t", pagesDir, nowMs: Date.now }); // prettier-ignore
  app.route("/", routes);
  app.get("/assets/:file", (context) =>
    serveFile(context, `${pagesDir}/assets`, context.req.param("file"), "no-store"),
  );
  const answer = getRequestListener(app.fetch);
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/dashboard`;
  const timers = [
    setInterval(() => {
      version += 1;
      ledger.commitRound(roundAt(version), [], NO_LEASES);
    }, ROUND_MS),
    setInterval(live.tick, 1000),
  ];
  try {
    await watch(url);
  } finally {
    timers.forEach(clearInterval);
    live.close();
    server.closeAllConnections();
    server.close();
    history.close();
    ledger.close();
  }
}

async function watch(url: string): Promise<void> {
  const browser = await launchChromium({ webgpu: false });
  try {
    const paints: number[] = [];
    const drawn: number[] = [];
    // The first visit starts the renderer; the others are what an operator meets.
    for (let visit = 0; visit < 6; visit++) {
      const context = await browser.newContext({ viewport: VIEWPORT });
      const page = await context.newPage();
      await page.goto(url);
      await page.waitForFunction(() => document.querySelectorAll("figure canvas").length >= 6 && document.querySelectorAll("tr[data-worker]").length > 0); // prettier-ignore
      const drawnMs = await page.evaluate(() => new Promise<number>((resolve) => requestAnimationFrame(() => resolve(performance.now())))); // prettier-ignore
      const paintMs = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN); // prettier-ignore
      if (visit > 0) {
        paints.push(paintMs);
        drawn.push(drawnMs);
      }
      await context.close();
    }
    print(
      "first paint (median, max of 5 visits)",
      `${median(paints).toFixed(0)}, ${Math.max(...paints).toFixed(0)} ms`,
    );
    print("all charts and the table drawn (median, max)", `${median(drawn).toFixed(0)}, ${Math.max(...drawn).toFixed(0)} ms`); // prettier-ignore

    print("with the charts in sight:", "");
    await watchUpdates(browser, url, "main");
    print("with the workers in sight:", "");
    await watchUpdates(browser, url, "section[aria-labelledby=workers]");
  } finally {
    await browser.close();
  }
}

/** `top`: what stands uppermost in the window. */
async function watchUpdates(browser: Browser, url: string, top: string): Promise<void> {
  const context = await browser.newContext({ viewport: VIEWPORT });
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll("figure canvas").length >= 6);
  await page.locator(top).evaluate((element) => element.scrollIntoView());
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await browser.startTracing(page, { categories: TRACE_CATEGORIES });
  await new Promise((resolve) => setTimeout(resolve, 1000 * WATCHED_SECONDS));
  const trace = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] };
  report(mainThread(trace.traceEvents));
  await context.close();
}

function report({ longestTask, total, seconds, kinds }: MainThread): void {
  print("longest task of the main thread", `${longestTask.toFixed(1)} ms of processor time`);
  print("all its tasks, for each second's update", `${(total / WATCHED_SECONDS).toFixed(1)} ms of processor time`);
  print("the median second, the longest", `${median(seconds).toFixed(1)}, ${Math.max(...seconds).toFixed(1)} ms`);
  for (const [kind, ms] of kinds.slice(0, SHOWN_KINDS)) print(`  ${kind}`, `${(ms / WATCHED_SECONDS).toFixed(2)} ms`);
}

function roundAt(version: number): RoundRow {
  const key = streamKey(1, version);
  const spike = version % 250_003 === 0 ? 8 : 0;
  const workers = 100 * (1 + Math.floor((4.99 * version) / 1e6)) + Math.floor(3 * randomUniform(key, 1));
  const roundMs = ROUND_MS * (0.9 + 0.2 * randomUniform(key, 2));
  return {
    version,
    origin: 96 * (version - 1),
    samples: 96,
    tokens: 6144,
    lossSum: 6144 * (1.5 + 4 / (1 + version / 2000) ** 0.4 + 0.05 * randomNormal(key, 3) + spike),
    gradientNorm: 0.6 + 0.1 * randomUniform(key, 4) + spike,
    learningRate: 1e-3 * (1 - version / 1.1e6),
    hash: "0123456789abcdef",
    baseHash: "0123456789abcdef",
    journal: 0,
    record: version,
    committedMs: 1.79e12 + ROUND_MS * version,
    roundMs,
    computeMs: 0.8 * roundMs,
    commitMs: 0.05 * roundMs,
    workers: Math.min(WORKERS, workers),
    bytesIn: 3_000_000,
    bytesOut: 3_000_000,
  };
}

function fill(file: string, rounds: number): void {
  const database = new DatabaseSync(file);
  const names = Object.keys(roundAt(1));
  const insert = database.prepare(`INSERT INTO round (${names.join()}) VALUES (${names.map((name) => `:${name}`).join()})`); // prettier-ignore
  const evaluate = database.prepare("INSERT INTO evaluation (version, samples, tokens, lossSum, atMs) VALUES (?, 200, 12800, ?, ?)"); // prettier-ignore
  database.exec("PRAGMA synchronous = OFF; BEGIN");
  for (let version = 1; version <= rounds; version++) {
    const row = roundAt(version);
    insert.run(row);
    if (version % 100 === 0) evaluate.run(version, 12_800 * (row.lossSum / row.tokens + 0.02), row.committedMs);
  }
  database.exec("COMMIT");
  database.close();
}

function statusOf(version: number): Status {
  const workers = Array.from({ length: WORKERS }, (_, i): Status["workers"][number] => {
    const key = streamKey(i, Math.floor(version / 10));
    return {
      worker: `worker-${i}-0123456789`,
      name: `volunteer ${i}`,
      kind: i % 3 === 0 ? "node" : "browser",
      state: "ready",
      backend: i % 3 === 0 ? "onnx" : "webgpu",
      fallbacks: [],
      tokens: (1000 + i) * version,
      tokensPerSecond: 100 + 900 * randomUniform(key, 1),
      share: (1000 + i) / (1000 * WORKERS + (WORKERS * (WORKERS - 1)) / 2),
      refused: i % 7,
      waitingReason: i % 50 === 0 ? "every unit of this round is handed out" : "",
      behind: 0,
      leases: 1 + Math.floor(2 * randomUniform(key, 3)),
      strikes: 0,
      device: "AMD EPYC Processor, 8 cores",
    };
  });
  return { run: "a million rounds", about: null, corpus: "a text", paused: {}, hash: "00ff00ff00ff00ff", phase: "working", reason: `round ${version}: 3 of 8 units trained by ${WORKERS} workers`, version, steps: 1_100_000, parameters: 927_000, tokens: 6144 * version, tokensPerSecond: 61_000, trainLoss: 1.9, validationLoss: 1.92, learningRate: 1e-4, gradientNorm: 0.65, codec: "i8", strict: false, counts: {}, refusals: {}, workers }; // prettier-ignore
}

function takeInOne(ledger: Ledger, history: History, rounds: number): number {
  return median(
    Array.from({ length: 21 }, (_, i) => {
      ledger.commitRound(roundAt(rounds + 1 + i), [], NO_LEASES);
      return timeOf(() => history.refresh());
    }),
  );
}

function timeOf(work: () => unknown): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function print(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(48)}${value}\n`);
}
