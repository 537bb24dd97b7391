/** @file The volunteer's page in a real Chromium, its session thread scripted: what it shows, and what its button does. */
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { answerStatus, scriptSession, type ServedPages, servePages } from "../../support/pages.ts";
import { fallenBack, finished, offline, refused, status, working } from "./states.ts";

let pages: ServedPages;
let browser: Browser;
let context: BrowserContext;
let errors: string[];

beforeAll(async () => {
  if (!hasChromium) return;
  pages = await servePages();
  browser = await launchChromium();
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  await pages.close();
});

beforeEach(async () => {
  if (!hasChromium) return;
  errors = [];
  context = await browser.newContext();
  context.on("weberror", (error) => errors.push(String(error.error())));
  await answerStatus(context, status);
});

afterEach(async () => {
  if (!hasChromium) return;
  await context.close();
  expect(errors).toEqual([]);
});

async function open(query = ""): Promise<Page> {
  const page = await context.newPage();
  await page.goto(pages.url + query);
  return page;
}

const button = (page: Page) => page.getByRole("button");

/** Waits, bounded, until the element has this text. */
async function reads(page: Page, id: string, text: string): Promise<void> {
  await page.locator(`#${id}`, { hasText: text }).waitFor({ timeout: 10_000 });
}

browserTest("a visitor sees what the run is before joining it, and loads no engine", async () => {
  const requested: string[] = [];
  context.on("request", (request) => requested.push(new URL(request.url()).pathname));
  const page = await open();
  await reads(page, "run-name", "state-of-the-union");
  await reads(page, "steps", "812 of 2,000");
  expect(await page.locator("#mine").isVisible()).toBe(false);
  expect(requested.filter((path) => path.endsWith(".js")).map((path) => path.replace(/-.{8}\.js$/, ""))).toEqual([
    "/assets/index",
  ]);
});

browserTest("one press joins, by keyboard too; the tab shows its part", async () => {
  await scriptSession(context, [working]);
  const page = await open();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await reads(page, "headline", "Training");
  await reads(page, "backend", "WebGPU");
  await reads(page, "device", "google swiftshader");
  await reads(page, "my-tokens", "54,784");
  await reads(page, "my-speed", "3,312");
  await reads(page, "validation-loss", "2.200");
  expect(await page.title()).toBe("Training · manyhands");
});

browserTest("[I7] every backend that is not used is named with its reason", async () => {
  await scriptSession(context, [fallenBack]);
  const page = await open("?join");
  await reads(page, "backend", "WebAssembly");
  expect(await page.getByRole("listitem").allTextContents()).toEqual([
    "WebGPU is not used: browsers offer WebGPU only on https pages and on localhost",
    "WebGL is not used: WebGL has only 16-bit floats here",
  ]);
});

browserTest("Stop ends the threads and gives the tab back; joining again works", async () => {
  await scriptSession(context, [working]);
  const page = await open("?join");
  await reads(page, "headline", "Training");
  const [thread] = page.workers();
  const closed = new Promise((resolve) => thread?.once("close", resolve));
  await button(page).click();
  await reads(page, "headline", "Stopped");
  await closed;
  await button(page).click();
  await reads(page, "headline", "Training");
});

browserTest(
  "a second tab of the same browser sees that the first is at work, and may take over when it stops",
  async () => {
    await scriptSession(context, [working]);
    const first = await open("?join");
    await reads(first, "headline", "Training");
    const second = await open("?join");
    await reads(second, "headline", "Another tab is already helping");
    await button(first).click();
    await reads(first, "headline", "Stopped");
    await button(second).click();
    await reads(second, "headline", "Training");
  },
);

browserTest("a lost connection, a refusal and the end of the run are each told in words", async () => {
  for (const [state, headline, detail] of [
    [offline, "Connection lost", "The coordinator does not answer."],
    [refused, "Not taking part", "this run asks for a token"],
    [finished, "The run is finished", "Thank you"],
  ] as const) {
    await scriptSession(context, [working, state]);
    const page = await open("?join");
    await reads(page, "headline", headline);
    await reads(page, "detail", detail);
    await page.close();
  }
});

browserTest("the identity that the coordinator gave is kept for the next visit", async () => {
  const script = `self.onmessage = ({ data }) => {
    if (data.type !== "join") return;
    if (data.identity === null) postMessage({ type: "remember", identity: { worker: "w7", secret: "s7" } });
    else postMessage({ type: "device", device: "back as " + data.identity.worker });
  };`;
  await context.route("**/session-*.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
  const page = await open("?join");
  await page.waitForFunction(() => localStorage.length > 0);
  await page.reload();
  await reads(page, "device", "back as w7");
});

browserTest("a session thread that breaks is told, and the tab is free again", async () => {
  await context.route("**/session-*.js", (route) =>
    route.fulfill({ contentType: "text/javascript", body: "throw new Error('out of luck')" }),
  );
  const page = await open("?join");
  await reads(page, "headline", "Not taking part");
  await reads(page, "detail", "out of luck");
  errors.length = 0;
});

browserTest("fits a narrow phone without sideways scrolling, in light and dark", async () => {
  await scriptSession(context, [fallenBack]);
  const page = await open("?join");
  await page.setViewportSize({ width: 320, height: 640 });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await reads(page, "headline", "Training");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
  }
});
