/**
 * @file From the click to the first contribution that the coordinator took in: Chromium on this machine, the smallest preset,
 * once with an empty cache and once with a warm one, and what the time went into.
 *
 *     npm run bench -- firstGradient [--preset tiny] [--unit 12] [--visits 3] [--backend webgpu] [--own-trace]
 *
 * Two of the parts are steps: the admission batch, of four samples, and the unit, of `--unit`. A round stays 96 samples.
 * With --own-trace the page does not get the steps that the coordinator traced, and loads tfjs to trace them itself.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BrowserContext } from "playwright-core";
import type { Status } from "../../shared/wire/status.ts";
import type { SessionToPage } from "../../worker-browser/messages.ts";
import { launchChromium } from "../support/chromium.ts";
import { smallCorpus, startCoordinator } from "../support/coordinatorProcess.ts";
import type { CoordinatorProcess } from "../support/coordinatorProcess.ts";

const PATIENCE_MS = 300_000;

/** Milestones on the way, by what the session thread tells the page, in order. */
const parts = [
  "connected, welcomed",
  "code loaded, backend started and checked",
  "programs compiled, admission batch computed",
  "θ loaded",
  "admitted, first lease",
  "first unit computed",
  "accepted",
] as const;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      preset: { type: "string", default: "tiny" },
      unit: { type: "string", default: "12" },
      visits: { type: "string", default: "3" },
      backend: { type: "string", default: "webgpu" },
      "own-trace": { type: "boolean", default: false },
    },
  });
  const dir = mkdtempSync(join(tmpdir(), "manyhands-first-"));
  const coordinator = await startCoordinator([
    ...["--run", "first", "--preset", flags.preset, "--text", smallCorpus(dir), "--steps", "100000", "--workers", "0"],
    ...["--batch", "96", "--unit", flags.unit],
    ...["--port", "0", "--runs-dir", join(dir, "runs"), "--data-dir", join(dir, "data")],
  ]);
  const browser = await launchChromium();
  try {
    const context = await browser.newContext();
    if (flags["own-trace"]) await context.route("**/graphs/*", (route) => route.abort());
    const scripts: Promise<string | null>[] = [];
    context.on("response", (response) => {
      if (response.url().endsWith(".js")) scripts.push(response.headerValue("content-length"));
    });
    const visits: number[][] = [];
    for (let visit = 0; visit < Number(flags.visits); visit++) {
      visits.push(await visitOnce(context, coordinator, flags.backend));
      if (visit > 0) continue;
      const bytes = (await Promise.all(scripts)).reduce((sum, size) => sum + Number(size), 0);
      console.log(`scripts of the first visit: ${scripts.length}, ${(bytes / 1000).toFixed(0)} kB as sent`);
    }
    console.log(`${flags.preset} on ${flags.backend}, ${browser.version()}; seconds\n`);
    console.log(`${"".padEnd(44)}${visits.map((_, i) => (i === 0 ? "cold" : "warm").padStart(8)).join("")}`);
    for (const [index, part] of parts.entries()) {
      const spent = visits.map((times) => (times[index] ?? Number.NaN) - (times[index - 1] ?? 0));
      console.log(part.padEnd(44) + spent.map((ms) => (ms / 1000).toFixed(2).padStart(8)).join(""));
    }
    console.log("all".padEnd(44) + visits.map((times) => ((times.at(-1) ?? Number.NaN) / 1000).toFixed(2).padStart(8)).join("")); // prettier-ignore
  } finally {
    await browser.close();
    coordinator.child.kill("SIGTERM");
    await coordinator.exit;
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Tokens are counted from the beginning in each connection. */
function isAccepted({ workers }: Status): boolean {
  return workers.some(({ tokens }) => tokens > 0);
}

type Heard = { readonly atMs: number; readonly message: SessionToPage; readonly leases: number };

/** One visit, until its first contribution is taken in. When each part was over, in ms after the click. */
async function visitOnce(context: BrowserContext, coordinator: CoordinatorProcess, backend: string): Promise<number[]> {
  const page = await context.newPage();
  await page.addInitScript(() => {
    const heard: Heard[] = [];
    Object.assign(globalThis, { heard });
    globalThis.Worker = class extends Worker {
      constructor(url: string | URL, options?: WorkerOptions) {
        super(url, options);
        this.addEventListener("message", ({ data }: MessageEvent<SessionToPage>) => {
          // A Set does not come through to the bench.
          const leases = data.type === "state" ? data.state.leases.size : 0;
          heard.push({ atMs: Date.now(), message: data, leases });
        });
      }
    };
  });
  await page.goto(`${coordinator.url}/?backend=${backend}`);
  await page.locator("#run-name", { hasText: "first" }).waitFor();
  const clickedMs = await page.evaluate(() => {
    document.getElementById("button")?.click();
    return Date.now();
  });
  await coordinator.until(isAccepted, PATIENCE_MS);
  const acceptedMs = Date.now();
  const heard = await page.evaluate(() => (globalThis as unknown as { heard: Heard[] }).heard);
  const first = (is: (heard: Heard) => boolean): number => (heard.find(is)?.atMs ?? Number.NaN) - clickedMs;
  const state = (is: (state: Extract<SessionToPage, { type: "state" }>["state"]) => boolean): number =>
    first(({ message }) => message.type === "state" && is(message.state));
  const times = [
    state(({ phase }) => phase.name === "loading"),
    first(({ message }) => message.type === "device"),
    state(({ engine }) => engine !== null),
    state(({ held }) => held !== null),
    first(({ leases }) => leases > 0),
    state(({ unitsDone }) => unitsDone > 0),
    acceptedMs - clickedMs,
  ];
  await page.getByRole("button", { name: "Stop" }).click();
  await coordinator.until(({ workers }) => workers.length === 0);
  await page.close();
  return times;
}
