/** @file A browser tab joins a run half-way: real coordinator, real Node worker, real Chromium with WebGPU on SwiftShader. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import type { Status, WorkerStatus } from "../../coordinator/status.ts";
import { browserTest, launchChromium } from "../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator, storedContributions, storedRounds } from "../support/coordinatorProcess.ts"; // prettier-ignore

const STEPS = 100;

/**
 * SwiftShader takes a tenth of a second and more for the smallest step, the Node worker a millisecond: only rounds of many
 * small units leave the tab time to finish one.
 */
const ROUNDS = ["--batch", "1024", "--unit", "4", "--steps", String(STEPS), "--workers", "1", "--evaluate-every", "25"];

let dir: string;
let cleanUp: (() => unknown)[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-e2e-"));
});

afterEach(async () => {
  for (const step of cleanUp.toReversed()) await step();
  cleanUp = [];
  rmSync(dir, { recursive: true, force: true });
});

browserTest("a browser tab that joins half-way contributes to the same run, and Stop gives its work back", async () => {
  const coordinator = await startCoordinator(["--run", "mixed", ...smallRun(dir, smallCorpus(dir)), ...ROUNDS]);
  cleanUp.push(() => {
    coordinator.child.kill("SIGTERM");
    return coordinator.exit;
  });
  const before = await coordinator.until(({ version }) => version >= 3);
  expect(before.workers.map(({ kind }) => kind)).toEqual(["node"]);

  const browser = await launchChromium();
  cleanUp.push(() => browser.close());
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(`${coordinator.url}/?join&name=tab`);

  const during = await coordinator.until((status) => (tab(status)?.tokens ?? 0) > 0);
  expect(tab(during)).toMatchObject({ name: "tab", backend: "webgpu", fallbacks: [] });
  await page.waitForFunction(() => Number.parseInt(document.getElementById("my-tokens")?.textContent ?? "") > 0);
  expect(await page.locator("#headline").textContent()).toMatch(/Training|Waiting for work/);
  expect(await page.locator("#backend").textContent()).toBe("WebGPU");
  expect(await page.evaluate(async () => (await caches.keys()).length), "pieces of the corpus are kept").toBe(1);

  const threads = page.workers().map((thread) => new Promise((resolve) => thread.once("close", resolve)));
  await page.getByRole("button", { name: "Stop" }).click();
  const after = await coordinator.until((status) => tab(status) === undefined);
  await Promise.all(threads);
  expect(await page.locator("#headline").textContent()).toBe("Stopped");
  expect(complaints).toEqual([]);
  // A θ that differs anywhere shows as a refusal of what was computed on it.
  expect(after.refusals["wrong-hash"]).toBeUndefined();
  expect(after.refusals["not-finite"]).toBeUndefined();

  expect(await coordinator.exit, coordinator.output()).toBe(0);
  const rounds = storedRounds(dir, "mixed");
  expect(rounds.map(({ version }) => version)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  const fromTab = storedContributions(dir, "mixed").filter(({ worker }) => worker === tab(during)?.worker);
  expect(fromTab.length, "units of the tab in committed rounds").toBeGreaterThan(0);
  const versions = fromTab.map(({ version }) => version);
  expect(Math.min(...versions)).toBeGreaterThan(before.version);
  expect(Math.max(...versions), "the run went on without the tab").toBeLessThan(STEPS);
});

function tab({ workers }: Status): WorkerStatus | undefined {
  return workers.find(({ kind }) => kind === "browser");
}
