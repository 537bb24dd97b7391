/**
 * @file What Lighthouse says of the volunteer's page, as a phone on a slow network would see it (its own default), from a real
 * coordinator: performance and accessibility.
 *
 *     npm run bench -- lighthouse [--desktop]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import lighthouse, { desktopConfig } from "lighthouse";
import { freePort, launchChromium } from "../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";

const TARGET = 95;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({ args, options: { desktop: { type: "boolean", default: false } } });
  const dir = mkdtempSync(join(tmpdir(), "manyhands-lighthouse-"));
  const coordinator = await startCoordinator([
    ...["--run", "page", ...smallRun(dir, smallCorpus(dir)), "--steps", "100000", "--workers", "1"],
  ]);
  const port = await freePort();
  const browser = await launchChromium({ args: [`--remote-debugging-port=${port}`] });
  try {
    // A curve to draw: the page as visitors find it.
    await coordinator.until(({ version }) => version >= 20);
    const config = flags.desktop ? desktopConfig : undefined;
    const result = await lighthouse(coordinator.url, { port, onlyCategories: ["performance", "accessibility"], logLevel: "error" }, config); // prettier-ignore
    if (result === undefined) throw new Error("lighthouse gave no result");
    const { categories, audits, lighthouseVersion } = result.lhr;
    console.log(`Lighthouse ${lighthouseVersion}, ${flags.desktop ? "desktop" : "phone on a slow network"}`);
    for (const { title, score } of Object.values(categories)) {
      const percent = Math.round(100 * (score ?? 0));
      console.log(`${title.padEnd(32)}${String(percent).padStart(8)}   target ${TARGET}: ${percent >= TARGET ? "met" : "missed"}`); // prettier-ignore
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
  } finally {
    await browser.close();
    coordinator.child.kill("SIGTERM");
    await coordinator.exit;
    rmSync(dir, { recursive: true, force: true });
  }
}
