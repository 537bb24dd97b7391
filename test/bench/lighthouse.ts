/**
 * @file What Lighthouse says of the volunteer's page, as a phone on a slow network would see it (its own default), from a real
 * coordinator: performance and accessibility. The middle of several visits, each with a browser of its own. The run is paused
 * meanwhile: who visits has a machine of its own, and a worker on this one would be measured as the page's slowness.
 *
 *     npm run bench -- lighthouse [--desktop] [--visits 5]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import lighthouse, { desktopConfig, type Result } from "lighthouse";
import { freePort, launchChromium } from "../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";

const TARGET = 95;
const ADMIN = "the-admin-token-of-this-benchmark";

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({ args, options: { desktop: { type: "boolean", default: false }, visits: { type: "string", default: "5" } } }); // prettier-ignore
  const dir = mkdtempSync(join(tmpdir(), "manyhands-lighthouse-"));
  const coordinator = await startCoordinator([
    ...["--run", "page", ...smallRun(dir, smallCorpus(dir)), "--steps", "100000", "--workers", "1", "--admin-token", ADMIN], // prettier-ignore
  ]);
  try {
    // A curve to draw: the page as visitors find it.
    await coordinator.until(({ version }) => version >= 20);
    await fetch(`${coordinator.url}/admin/pause`, { method: "POST", headers: { Authorization: `Bearer ${ADMIN}` } });
    await coordinator.until(({ phase }) => phase === "paused");
    const visits: Result[] = [];
    while (visits.length < Number(flags.visits)) visits.push(await visit(coordinator.url, flags.desktop));
    report(visits, flags.desktop);
  } finally {
    coordinator.child.kill("SIGTERM");
    await coordinator.exit;
    rmSync(dir, { recursive: true, force: true });
  }
}

async function visit(url: string, isDesktop: boolean): Promise<Result> {
  const port = await freePort();
  const browser = await launchChromium({ args: [`--remote-debugging-port=${port}`] });
  try {
    const config = isDesktop ? desktopConfig : undefined;
    const result = await lighthouse(url, { port, onlyCategories: ["performance", "accessibility"], logLevel: "error" }, config); // prettier-ignore
    if (result === undefined) throw new Error("lighthouse gave no result");
    return result.lhr;
  } finally {
    await browser.close();
  }
}

function report(visits: readonly Result[], isDesktop: boolean): void {
  const byScore = [...visits].sort((a, b) => scoreOf(a, "performance") - scoreOf(b, "performance"));
  const middle = byScore[Math.floor(byScore.length / 2)];
  if (middle === undefined) throw new Error("no visit");
  const { categories, audits, lighthouseVersion } = middle;
  console.log(`Lighthouse ${lighthouseVersion}, ${isDesktop ? "desktop" : "phone on a slow network"}, ${visits.length} visits`); // prettier-ignore
  console.log(`${"Performance of each".padEnd(32)}${byScore.map((visited) => scoreOf(visited, "performance")).join(" ")}`); // prettier-ignore
  // Lighthouse's own measure of how fast this machine was meanwhile: another program's load shows as a low one.
  console.log(`${"Speed of the machine at each".padEnd(32)}${byScore.map(({ environment }) => Math.round(environment.benchmarkIndex)).join(" ")}`); // prettier-ignore
  for (const [id, { title }] of Object.entries(categories)) {
    const score = scoreOf(middle, id);
    console.log(`${title.padEnd(32)}${String(score).padStart(8)}   target ${TARGET}: ${score >= TARGET ? "met" : "missed"}`); // prettier-ignore
  }
  for (const name of [
    "first-contentful-paint",
    "largest-contentful-paint",
    "total-blocking-time",
    "cumulative-layout-shift",
    "total-byte-weight",
  ]) {
    const audit = audits[name];
    console.log(`${(audit?.title ?? name).padEnd(32)}${(audit?.displayValue ?? "?").padStart(8)}`);
  }
  for (const { id, score, title } of Object.values(audits)) {
    if (score !== null && score < 0.9 && categories["accessibility"]?.auditRefs.some((audit) => audit.id === id)) console.log(`  ${title}`); // prettier-ignore
  }
}

/** 0 … 100. */
function scoreOf(visit: Result, category: string): number {
  return Math.round(100 * (visit.categories[category]?.score ?? 0));
}
