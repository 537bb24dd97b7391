/**
 * @file A guest in a real browser: one Chromium with WebGPU on SwiftShader, one real coordinator, and a tab that is paused,
 * slowed, capped, hidden, frozen, cut off, robbed of its device and of its thread. After each of these it is a worker that
 * contributes again, and the audit of the run
 * finds nothing.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, CDPSession, Page, Worker } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import type { Status, WorkerStatus } from "../../../shared/wire/status.ts";
import { browserTest, hasChromium, launchChromiumWithTabs } from "../../support/chromium.ts";
import { type CoordinatorProcess, smallCorpus, smallRun, startCoordinator } from "../../support/coordinatorProcess.ts"; // prettier-ignore

const RUN = "guest";

const AUDIT = join(import.meta.dirname, "../../../coordinator/auditMain.ts");

/** A name that is not localhost: to the browser an insecure page, as over plain http in a home network. */
const INSECURE_HOST = "manyhands.test";

/** SwiftShader on a busy machine compiles for half a minute. */
const PATIENCE_MS = 120_000;

let dir: string;
let coordinator: CoordinatorProcess;
let browser: Browser;
let context: BrowserContext;
let close: () => Promise<void>;
/** The tab that most of these happen to. */
let page: Page;
let devTools: CDPSession;

beforeAll(async () => {
  if (!hasChromium) return;
  dir = mkdtempSync(join(tmpdir(), "manyhands-guest-"));
  coordinator = await startCoordinator(runFlags());
  ({ browser, context, close } = await launchChromiumWithTabs([
    `--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`,
  ]));
  page = await context.newPage();
  devTools = await context.newCDPSession(page);
});

afterAll(async () => {
  if (!hasChromium) return;
  await close();
  coordinator.child.kill("SIGTERM");
  await coordinator.exit;
  const audit = spawnSync(process.execPath, [AUDIT, "--run", RUN, "--runs-dir", join(dir, "runs")], {
    encoding: "utf8",
  });
  rmSync(dir, { recursive: true, force: true });
  expect(audit.status, audit.stdout + audit.stderr).toBe(0);
});

function runFlags(): string[] {
  return [
    ...["--run", RUN, ...smallRun(dir, smallCorpus(dir)), "--steps", "100000", "--workers", "0"],
    ...["--origin", `http://${INSECURE_HOST}`],
  ];
}

browserTest("joins, contributes, and the page says so", async () => {
  await page.goto(`${coordinator.url}/?join&name=tab`);
  await contributes();
  const [worker] = (await coordinator.status()).workers;
  expect(worker).toMatchObject({ name: "tab", backend: "webgpu", fallbacks: [] });
  await page.waitForFunction(() => Number(document.getElementById("my-steps")?.textContent) > 0);
  expect(await page.locator("#my-rank").textContent()).toBe("1");
});

browserTest("who wants to know what a step is made of opens a table, and the tab goes on", async () => {
  await page.locator("#kernels summary").click();
  await page.locator("#kernels tbody tr").first().waitFor({ timeout: PATIENCE_MS });
  const rows = await page.locator("#kernels tbody tr").evaluateAll((all) => all.map((row) => [...row.children].map(({ textContent }) => textContent ?? ""))); // prettier-ignore
  expect(rows.map(([name = ""]) => name.split(" ")[0])).toEqual(expect.arrayContaining(["matMul", "attentionGrad"]));
  const shares = rows.map(([, , share = ""]) => Number.parseFloat(share));
  expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(100, -1);
  await page.locator("#kernels summary").click();
  await contributes();
});

browserTest("pause gives the work back and disconnects; go on comes back as the same worker", async () => {
  const before = await tab();
  await page.locator("#pause").click();
  await coordinator.until(({ workers }) => workers.length === 0, PATIENCE_MS);
  expect(await page.locator("#headline").textContent()).toBe("Paused");
  await page.locator("#pause").click();
  await contributes();
  expect((await tab())?.worker).toBe(before?.worker);
});

browserTest("the part of the time that it computes is what was asked for", async () => {
  const gently = await busyShare("Gently");
  const fully = await busyShare("Fully");
  // A few seconds of units that take up to one: the first may have been begun at another pace. The unit test is exact.
  expect(gently).toBeLessThanOrEqual(0.35);
  expect(fully).toBeGreaterThan(gently + 0.15);
});

browserTest("no task of the page takes longer than 50 ms of its thread while the tab trains", async () => {
  await browser.startTracing(page, { categories: ["toplevel", "devtools.timeline"] });
  const before = (await coordinator.status()).version;
  await coordinator.until(({ version }) => version >= before + 5, PATIENCE_MS);
  const tasks = mainThreadTasks(await browser.stopTracing());
  // Of the thread's own time: what other programs took from it is not the page's.
  expect(tasks.length).toBeGreaterThan(20);
  expect(Math.max(...tasks)).toBeLessThan(50);
});

browserTest("hidden it goes on, and shown again it still does", async () => {
  const other = await context.newPage();
  await other.bringToFront();
  await page.waitForFunction(() => document.hidden, undefined, { polling: 100 });
  await contributes();
  await other.close();
  await page.bringToFront();
  await page.waitForFunction(() => !document.hidden, undefined, { polling: 100 });
  await contributes();
});

browserTest("frozen it leaves, thawed it comes back", async () => {
  await devTools.send("Page.setWebLifecycleState", { state: "frozen" });
  await coordinator.until(({ workers }) => workers.length === 0, PATIENCE_MS);
  await devTools.send("Page.setWebLifecycleState", { state: "active" });
  await contributes();
});

browserTest("offline it is lost without a wait for heartbeats; online it comes back", async () => {
  await context.setOffline(true);
  await page.locator("#headline", { hasText: "Connection lost" }).waitFor();
  await context.setOffline(false);
  await contributes();
});

browserTest("a device that is lost is replaced, and nothing is avoided for it", async () => {
  await atNextCommand(page, (device) => device.destroy());
  await page.locator("#reason", { hasText: "the graphics device was lost" }).waitFor();
  await contributes();
  expect(await tab()).toMatchObject({ backend: "webgpu", fallbacks: [] });
});

browserTest("[I7] a device that runs out of memory takes smaller pieces, and says so", async () => {
  await atNextCommand(page, (device) => {
    const error = new GPUOutOfMemoryError("out of memory: a buffer of 123456 bytes");
    device.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
  });
  await page.locator("#notes", { hasText: "WebGPU ran short of memory, so it takes smaller pieces (1 at a time)" }).waitFor(); // prettier-ignore
  await contributes();
  expect(await tab()).toMatchObject({ backend: "webgpu", fallbacks: [] });
});

browserTest("a compute thread that crashes is replaced", async () => {
  const compute = computeThread(page);
  const gone = new Promise((resolve) => compute.once("close", resolve));
  await compute.evaluate(() => void setTimeout(() => JSON.parse("{ a bug"), 0));
  await gone;
  await contributes();
});

browserTest(
  "a coordinator that is killed and started again has its worker back, and goes on where it was",
  async () => {
    const before = await coordinator.status();
    const { port } = new URL(coordinator.url);
    coordinator.child.kill("SIGKILL");
    await coordinator.exit;
    await page.locator("#headline", { hasText: "Connection lost" }).waitFor();
    coordinator = await startCoordinator([...runFlags(), "--port", port]);
    expect((await coordinator.status()).version).toBeGreaterThanOrEqual(before.version);
    await contributes();
    expect((await tab())?.worker).toBe(before.workers[0]?.worker);
  },
);

browserTest("a second tab takes over as the same worker, and the first one ends", async () => {
  const before = await tab();
  const second = await context.newPage();
  await second.goto(`${coordinator.url}/?join&name=tab`);
  await second.locator("#headline", { hasText: "Another tab is already helping" }).waitFor();
  await second.locator("#button").click();
  await page.locator("#headline", { hasText: "Another tab took over" }).waitFor();
  await page.close();
  page = second;
  devTools = await context.newCDPSession(page);
  await contributes();
  expect((await tab())?.worker).toBe(before?.worker);
});

browserTest("stops at once, without a goodbye to wait for", async () => {
  const threads = page.workers().map((thread) => new Promise((resolve) => thread.once("close", resolve)));
  await page.locator("#button", { hasText: "Stop" }).click();
  await Promise.all(threads);
  await coordinator.until(({ workers }) => workers.length === 0);
});

browserTest(
  "only when plugged in: on battery it leaves, and it comes back with power or when it is no longer asked",
  async () => {
    const guest = await browser.newContext();
    await guest.addInitScript(() => {
      localStorage.setItem("manyhands preferences", JSON.stringify({ onlyPluggedIn: true }));
      // The browser's own tells of this machine, which cannot be unplugged.
      const battery = Object.assign(new EventTarget(), { charging: true });
      const plug = (charging: boolean): void => {
        battery.charging = charging;
        battery.dispatchEvent(new Event("chargingchange"));
      };
      Object.assign(globalThis, { plug });
      Object.defineProperty(Navigator.prototype, "getBattery", { value: () => Promise.resolve(battery) });
    });
    const laptop = await guest.newPage();
    const rests = async (): Promise<void> => {
      await laptop.locator("#headline", { hasText: "Resting on battery" }).waitFor();
      await coordinator.until(({ workers }) => workers.length === 0, PATIENCE_MS);
    };
    await laptop.goto(`${coordinator.url}/?join&backend=wasm&name=laptop`);
    await contributes();
    const before = await tab();
    await laptop.evaluate("plug(false)");
    await rests();
    await laptop.locator("#plugged").uncheck();
    await contributes();
    await laptop.locator("#plugged").check();
    await rests();
    await laptop.evaluate("plug(true)");
    await contributes();
    expect((await tab())?.worker).toBe(before?.worker);
    await guest.close();
    await coordinator.until(({ workers }) => workers.length === 0, PATIENCE_MS);
  },
);

browserTest(
  "it keeps the screen on while it works and is seen, and a lock against freezing until it stops",
  async () => {
    const lit = await context.newPage();
    await lit.addInitScript(() => {
      // oxlint-disable-next-line typescript/unbound-method -- called with its own `this` below
      const request = WakeLock.prototype.request;
      const wakeLocks: WakeLockSentinel[] = [];
      Object.assign(globalThis, { wakeLocks });
      WakeLock.prototype.request = async function (this: WakeLock, type) {
        const sentinel = await request.call(this, type);
        wakeLocks.push(sentinel);
        return sentinel;
      };
    });
    const held = (count: number) =>
      lit.waitForFunction(
        (wanted) => (globalThis as unknown as { wakeLocks: WakeLockSentinel[] }).wakeLocks.filter(({ released }) => !released).length === wanted, // prettier-ignore
        count,
        { polling: 100 },
      );
    const webLocks = () => lit.evaluate(async () => (await navigator.locks.query()).held?.map(({ name }) => name));
    await lit.goto(`${coordinator.url}/?join&backend=wasm`);
    await contributes();
    expect(await webLocks()).toEqual(["manyhands"]);
    await held(0);
    await lit.locator("#awake").check();
    await held(1);
    const other = await context.newPage();
    await other.bringToFront();
    await held(0);
    await other.close();
    await lit.bringToFront();
    await held(1);
    await lit.locator("#pause").click();
    await held(0);
    expect(await webLocks(), "a pause is not the end").toEqual(["manyhands"]);
    await lit.locator("#button", { hasText: "Stop" }).click();
    await lit.locator("#headline", { hasText: "Stopped" }).waitFor();
    expect(await webLocks()).toEqual([]);
    await lit.close();
  },
);

browserTest("a data limit is kept to, and told", async () => {
  const LIMIT_MB = 3;
  const guest = await browser.newContext();
  await guest.addInitScript((megabytesPerHour) => {
    localStorage.setItem("manyhands preferences", JSON.stringify({ megabytesPerHour }));
  }, LIMIT_MB);
  const capped = await guest.newPage();
  const before = await socketBytes();
  await capped.goto(`${coordinator.url}/?join&backend=wasm`);
  await capped.locator("#headline", { hasText: "Data limit reached" }).waitFor({ timeout: PATIENCE_MS });
  await coordinator.until(({ workers }) => workers.length === 0, PATIENCE_MS);
  const used = (await socketBytes()) - before;
  await guest.close();
  // What was on its way when the tab left is counted there, too.
  expect(used, "as the coordinator counted it").toBeLessThanOrEqual(1.1 * LIMIT_MB * 1e6);
  expect(used, "it was of use before").toBeGreaterThan(0.3 * LIMIT_MB * 1e6);
});

browserTest("[I7] over plain http there is no WebGPU: the tab falls back, says why, and contributes", async () => {
  const guest = await browser.newContext();
  const insecure = await guest.newPage();
  await insecure.goto(`${coordinator.url.replace("127.0.0.1", INSECURE_HOST)}/?join&name=plain`);
  await insecure.locator("#notes", { hasText: "WebGPU is not used" }).waitFor({ timeout: PATIENCE_MS });
  await contributes();
  const worker = await tab();
  expect(worker).toMatchObject({ name: "plain" });
  expect(worker?.fallbacks[0]).toEqual({ backend: "webgpu", reason: "browsers offer WebGPU only on https pages and on localhost" }); // prettier-ignore
  await guest.close();
});

async function tab(): Promise<WorkerStatus | undefined> {
  return (await coordinator.status()).workers.find(({ kind }) => kind === "browser");
}

/** Waits, bounded, until the run took in work that was done from now on; nobody else works here. */
async function contributes(): Promise<Status> {
  const { version } = await coordinator.status();
  const status = await coordinator.until((now) => now.version >= version + 2, PATIENCE_MS);
  // A θ that differs anywhere shows as a refusal of what was computed on it.
  expect(status.refusals["wrong-hash"]).toBeUndefined();
  expect(status.refusals["not-finite"]).toBeUndefined();
  return status;
}

/** Sets the intensity and waits until the page tells what came of it. */
async function busyShare(intensity: string): Promise<number> {
  await page.getByRole("radio", { name: intensity }).check();
  // What was kept to before is forgotten first, then at least five seconds are measured.
  await page.locator("#busy").waitFor({ state: "detached" });
  const text = await page.locator("#busy").textContent({ timeout: PATIENCE_MS });
  return Number(/(\d+)%/.exec(text ?? "")?.[1]) / 100;
}

/** Bytes over all sockets, either way, as the coordinator counts them. */
async function socketBytes(): Promise<number> {
  const text = await (await fetch(`${coordinator.url}/metrics`)).text();
  const values = [...text.matchAll(/^manyhands_\w*bytes\w*\{.*\} (\S+)$/gm)].map(([, value]) => Number(value));
  expect(values.length).toBeGreaterThan(0);
  return values.reduce((sum, value) => sum + value, 0);
}

function computeThread(of: Page): Worker {
  const found = of.workers().find((thread) => thread.url().includes("/compute-"));
  if (found === undefined) throw new Error(`no compute thread among ${of.workers().map((thread) => thread.url()).join()}`); // prettier-ignore
  return found;
}

/** Does this to the device of the tab's compute thread, in the middle of its work. */
async function atNextCommand(of: Page, happen: (device: GPUDevice) => void): Promise<void> {
  await computeThread(of).evaluate(`
    const create = GPUDevice.prototype.createCommandEncoder;
    GPUDevice.prototype.createCommandEncoder = function (descriptor) {
      GPUDevice.prototype.createCommandEncoder = create;
      (${String(happen)})(this);
      return create.call(this, descriptor);
    };
  `);
}

/** Durations of the tasks of the page's main thread, in ms of that thread's own processor time. */
function mainThreadTasks(trace: Buffer): number[] {
  type TraceEvent = { name: string; ph: string; pid: number; tid: number; tdur?: number; args?: { name?: string; data?: { frames?: { url: string; processId: number }[] } } }; // prettier-ignore
  const { traceEvents } = JSON.parse(trace.toString()) as { traceEvents: TraceEvent[] };
  const threads = new Set(
    traceEvents
      .filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`),
  );
  return traceEvents
    .filter(({ name, ph, pid, tid }) => name.endsWith("RunTask") && ph === "X" && threads.has(`${pid} ${tid}`))
    .map(({ tdur = 0 }) => tdur / 1000);
}
