/** @file A browser tab joins a run half-way: real coordinator, real Node worker, real Chromium with WebGPU on SwiftShader. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect } from "vitest";
import type { Status, WorkerStatus } from "../../shared/wire/status.ts";
import { browserTest, launchChromium } from "../support/chromium.ts";
import { type CoordinatorProcess, smallCorpus, smallRun, startCoordinator, storedContributions, storedRounds } from "../support/coordinatorProcess.ts"; // prettier-ignore

const STEPS = 30;

/**
 * SwiftShader takes a tenth of a second and more for the smallest step, the Node worker a millisecond: only rounds of very many
 * small units leave the tab time to finish one.
 */
const ROUNDS = ["--batch", "4096", "--unit", "4", "--steps", String(STEPS), "--workers", "1", "--evaluate-every", "10"];

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
  const coordinator = await start("mixed");
  const before = await coordinator.until(({ version }) => version >= 2);
  expect(before.workers.map(({ kind }) => kind)).toEqual(["node"]);

  const { page, complaints } = await openTab(`${coordinator.url}/?join&name=tab`);
  const during = await coordinator.until(tabContributed);
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

browserTest(
  "[I4] after the coordinator was killed and started again, the tab is back by itself, as the same worker",
  async () => {
    const killed = await start("killed", "--steps", "100000");
    const { page } = await openTab(`${killed.url}/?join`);
    const before = tab(await killed.until(tabContributed));
    killed.child.kill("SIGKILL");
    await page.locator("#headline", { hasText: "Connection lost" }).waitFor();

    const again = await start("killed", "--steps", "100000", "--port", new URL(killed.url).port);
    const after = tab(await again.until(tabContributed));
    expect(after).toMatchObject({ worker: before?.worker, backend: "webgpu" });
  },
);

browserTest(
  "after the graphics process crashed, the tab takes a new device and goes on, as the same worker",
  async () => {
    const coordinator = await start("gpucrash", "--steps", "100000");
    const { page } = await openTab(`${coordinator.url}/?join`);
    const before = tab(await coordinator.until(tabContributed));
    const devTools = await page.context().browser()!.newBrowserCDPSession();
    await devTools.send("Browser.crashGpuProcess");
    await page.locator("#reason", { hasText: "the graphics device was lost" }).waitFor();

    const after = tab(await coordinator.until((status) => tab(status)?.state === "ready"));
    expect(after).toMatchObject({ worker: before?.worker, backend: "webgpu", fallbacks: [] });
  },
);

async function start(name: string, ...flags: string[]): Promise<CoordinatorProcess> {
  const corpus = smallCorpus(dir);
  const coordinator = await startCoordinator(["--run", name, ...smallRun(dir, corpus), ...ROUNDS, ...flags]);
  cleanUp.push(() => {
    coordinator.child.kill("SIGTERM");
    return coordinator.exit;
  });
  return coordinator;
}

async function openTab(url: string): Promise<{ page: Page; complaints: string[] }> {
  const browser = await launchChromium();
  cleanUp.push(() => browser.close());
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  return { page, complaints };
}

function tabContributed(status: Status): boolean {
  return (tab(status)?.tokens ?? 0) > 0;
}

function tab({ workers }: Status): WorkerStatus | undefined {
  return workers.find(({ kind }) => kind === "browser");
}
