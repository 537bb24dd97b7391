/** @file The rows of the workers while their figures change, in a real Chromium, told by a scripted source of events. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import type { LiveEvents } from "../../../shared/wire/dashboard.ts";
import type { Status, WorkerStatus } from "../../../shared/wire/status.ts";
import { changeOf } from "../../../shared/wire/statusChange.ts";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { type ServedPages, servePages } from "../../support/pages.ts";

let pages: ServedPages;
let browser: Browser;

beforeAll(async () => {
  if (!hasChromium) return;
  pages = await servePages();
  browser = await launchChromium({ webgpu: false });
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  await pages.close();
});

function statusOf(speeds: Readonly<Record<string, number>>): Status {
  const workers = Object.entries(speeds).map(([id, tokensPerSecond]): WorkerStatus => ({ worker: id, name: id, kind: "node", device: "", state: "ready", backend: "onnx", fallbacks: [], tokens: 0, tokensPerSecond, share: 0.5, refused: 0, waitingReason: "", behind: 0, leases: 1, strikes: 0 })); // prettier-ignore
  return { run: "r", about: null, corpus: "a text", paused: {}, hash: "00ff00ff00ff00ff", phase: "working", reason: "", version: 1, steps: 10, parameters: 1, tokens: 1, tokensPerSecond: 1, trainLoss: 1, validationLoss: 1, learningRate: 1, gradientNorm: 1, codec: "f32", strict: true, counts: {}, refusals: {}, workers }; // prettier-ignore
}

/** A page whose events come from here, and the function that tells them. */
async function watch(): Promise<{ page: Page; tell: <Name extends keyof LiveEvents>(name: Name, data: LiveEvents[Name]) => Promise<void> }> {
  const context = await browser.newContext({ viewport: { width: 1366, height: 900 } });
  await context.clock.install();
  await context.route("**/dashboard/*", (route) => route.fulfill({ status: 503 }));
  await context.addInitScript(() => {
    class ScriptedSource extends EventTarget {
      constructor() {
        super();
        Object.assign(globalThis, { source: this });
      }
      close(): void {}
    }
    Object.assign(globalThis, { EventSource: ScriptedSource });
  });
  const page = await context.newPage();
  await page.goto(`${pages.url}dashboard.html`);
  await page.waitForFunction(() => "source" in globalThis);
  return {
    page,
    tell: (name, data) =>
      page.evaluate(
        ([type, json]) => {
          const { source } = globalThis as unknown as { source: EventTarget };
          source.dispatchEvent(new MessageEvent(type, { data: json }));
        },
        [name, JSON.stringify(data)] as const,
      ),
  };
} // prettier-ignore

browserTest("figures change in their rows; rows change places every ten seconds, but not under the pointer or the keyboard", async () => {
  const { page, tell } = await watch();
  const rows = async (): Promise<string[]> => page.locator("tr[data-worker]").evaluateAll((all) => all.map((row) => `${row.getAttribute("data-worker")} ${row.querySelector("td.number")?.textContent}`)); // prettier-ignore
  let now = statusOf({ anna: 20, bert: 10, carl: 5 });
  const next = async (speeds: Readonly<Record<string, number>>): Promise<void> => {
    const before = now;
    now = statusOf(speeds);
    await tell("news", { status: changeOf(before, now) });
  };
  await tell("hello", { process: "p", startedMs: 0, status: now, scaling: [], events: [] });
  await expect.poll(rows).toEqual(["anna 20", "bert 10", "carl 5"]);
  await next({ anna: 21, bert: 50, carl: 5 });
  await expect.poll(rows).toEqual(["anna 21", "bert 50", "carl 5"]);

  await page.getByRole("button", { name: "Kick carl" }).hover();
  await page.clock.fastForward(15_000);
  await next({ anna: 22, bert: 51, carl: 6 });
  await expect.poll(rows).toEqual(["anna 22", "bert 51", "carl 6"]);

  await page.mouse.move(5, 5);
  await page.getByRole("button", { name: "Ban anna" }).focus();
  // As after Tab: a focus that a press of the pointer leaves behind holds nothing.
  await page.keyboard.press("Shift");
  await page.clock.fastForward(15_000);
  await next({ anna: 23, bert: 52, carl: 7 });
  await expect.poll(rows).toEqual(["anna 23", "bert 52", "carl 7"]);

  await page.getByLabel("Filter by name or backend").focus();
  await next({ anna: 24, bert: 53, carl: 8, dora: 1 });
  await expect.poll(rows).toEqual(["bert 53", "anna 24", "carl 8", "dora 1"]);
  await next({ anna: 24, carl: 8, dora: 99 });
  await expect.poll(rows).toEqual(["anna 24", "carl 8", "dora 99"]);
  await page.context().close();
}); // prettier-ignore
