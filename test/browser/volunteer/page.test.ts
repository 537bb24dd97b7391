/** @file The volunteer's page in a real Chromium, its session thread scripted: what it shows, and what its button does. */
import { gzipSync } from "node:zlib";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { violations } from "../../support/axe.ts";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import {
  answerBoard,
  answerCurves,
  answerStatus,
  scriptSession,
  type ServedPages,
  servePages,
} from "../../support/pages.ts";
import { difference, LOOKS_THE_SAME } from "../../support/pictures.ts";
import type { PageToSession } from "../../../worker-browser/messages.ts";
import { pictures, takePicture } from "./screenshots.ts";
import { board, curve, dataUsedUp, fallenBack, finished, offline, refused, status, usage, working } from "./states.ts";

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
  await answerCurves(context, curve);
  await answerBoard(context, board);
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

const button = (page: Page) => page.locator("#button");

/** Waits, bounded, until the element has this text. */
async function reads(page: Page, id: string, text: string): Promise<void> {
  await page.locator(`#${id}`, { hasText: text }).waitFor({ timeout: 10_000 });
}

browserTest("a visitor sees what the run is before joining it, and loads no engine", async () => {
  const requested: string[] = [];
  context.on("request", (request) => requested.push(new URL(request.url()).pathname));
  const page = await open();
  await reads(page, "run-name", "state-of-the-union");
  await reads(page, "steps", "Step 812 of 2,000");
  await reads(page, "about", "815 thousand parameters on “State of the Union addresses”");
  expect(await page.locator("#mine").isVisible()).toBe(false);
  await page.locator("canvas").waitFor();
  await page.getByRole("img", { name: "Loss by step: from 4.477 at step 1 to 2.187 at step 812." }).waitFor();
  const scripts = requested.filter((path) => path.endsWith(".js")).map((path) => path.replace(/-.{8}\.js$/, ""));
  expect(scripts.filter((path) => !path.includes("rolldown-runtime")).sort()).toEqual([
    "/assets/chart",
    // What the other pages use too.
    "/assets/header",
    "/assets/index",
    "/assets/plot",
  ]);
});

browserTest("one press joins, by keyboard too; the tab shows its part", async () => {
  await scriptSession(context, [working]);
  const page = await open();
  // A key before the page is drawn goes nowhere.
  await button(page).waitFor();
  // The links to the pages and the languages come first.
  for (let times = 0; times < 6; times++) await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("button");
  await page.keyboard.press("Enter");
  await reads(page, "headline", "Training");
  await reads(page, "backend", "WebGPU");
  await reads(page, "device", "google swiftshader");
  await reads(page, "my-tokens", "54,784");
  await reads(page, "my-speed", "3,312");
  await reads(page, "my-share", "8.5% of the run");
  await reads(page, "my-steps", "188");
  await reads(page, "my-rank", "3");
  await reads(page, "validation-loss", "2.200");
  expect(await page.title()).toBe("Training · manyhands");
});

const rows = (page: Page) => page.locator("#board tbody tr");

browserTest("the board tells who gave most, and marks one's own place", async () => {
  const visitor = await open();
  await rows(visitor).first().waitFor();
  expect(await rows(visitor).allTextContents()).toEqual([
    "1reading room28%641",
    "2Mei15%402",
    "3anonymous8.5%188",
    "4anonymous8.4%201",
    "5kitchen laptop6.3%160",
  ]);
  await visitor.close();
  await scriptSession(context, [working]);
  const page = await open("?join");
  await page.locator("#board .mine").waitFor();
  expect(await page.locator("#board .mine").allTextContents()).toEqual(["3anonymous (you)8.5%188"]);
  await page.close();
  // Beyond the best, by what the coordinator says of it.
  await scriptSession(context, [{ ...working, identity: { worker: "w99", secret: "s" } }]);
  const other = await open("?join");
  await other.locator("#board .mine").waitFor();
  expect(await rows(other).count()).toBe(board.top.length + 1);
});

browserTest("[I7] every backend that is not used is named with its reason", async () => {
  await scriptSession(context, [fallenBack]);
  const page = await open("?join");
  await reads(page, "backend", "WebAssembly");
  expect(await page.locator("#notes li").allTextContents()).toEqual([
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

browserTest("a second tab of the same browser sees that the first is at work, and may take over", async () => {
  await scriptSession(context, [working]);
  const first = await open("?join");
  await reads(first, "headline", "Training");
  const second = await open("?join");
  await reads(second, "headline", "Another tab is already helping");
  const [thread] = first.workers();
  const closed = new Promise((resolve) => thread?.once("close", resolve));
  await button(second).click();
  await reads(second, "headline", "Training");
  await reads(first, "headline", "Another tab took over");
  await closed;
  await button(first).click();
  await reads(first, "headline", "Training");
  await reads(second, "headline", "Another tab took over");
});

browserTest("a lost connection, a refusal and the end of the run are each told in words", async () => {
  for (const [state, headline, where, detail] of [
    [offline, "Connection lost", "reason", "The coordinator does not answer."],
    [refused, "Not taking part", "reason", "this run asks for a token"],
    [finished, "The run is finished", "detail", "Thank you"],
  ] as const) {
    await scriptSession(context, [working, state]);
    const page = await open("?join");
    await reads(page, "headline", headline);
    await reads(page, where, detail);
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
  await page.waitForFunction(() => localStorage.getItem("manyhands identity") !== null);
  await page.reload();
  await reads(page, "device", "back as w7");
});

browserTest("a session thread that breaks is told, and the tab is free again", async () => {
  await context.route("**/session-*.js", (route) =>
    route.fulfill({ contentType: "text/javascript", body: "throw new Error('out of luck')" }),
  );
  const page = await open("?join");
  await reads(page, "headline", "Not taking part");
  await reads(page, "reason", "out of luck");
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

/** What the page tells its session thread, from here on. */
async function told(page: Page): Promise<() => Promise<PageToSession[]>> {
  await page.addInitScript(() => {
    // oxlint-disable-next-line typescript/unbound-method -- called with its own `this` below
    const say = Worker.prototype.postMessage;
    const all: unknown[] = [];
    Object.assign(globalThis, { told: all });
    Worker.prototype.postMessage = function (this: Worker, message: unknown) {
      all.push(message);
      say.call(this, message);
    };
  });
  return () => page.evaluate(() => (globalThis as unknown as { told: PageToSession[] }).told);
}

browserTest("what the volunteer sets reaches the session thread at once, and is kept for the next visit", async () => {
  await scriptSession(context, [working]);
  const page = await context.newPage();
  const messages = await told(page);
  await page.goto(`${pages.url}?join`);
  await reads(page, "headline", "Training");
  await page.getByRole("radio", { name: "Gently" }).check();
  await page.getByLabel("Data limit in MB per hour").fill("250");
  await page.getByLabel("Your name on the board").fill("Ada");
  await page.keyboard.press("Tab");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Go on" }).waitFor();
  const guests = (await messages()).filter((message) => message.type === "guest").map(({ guest }) => guest);
  expect(guests.at(-1)).toMatchObject({ paused: true, preferences: { intensity: 0.25, megabytesPerHour: 250 } });
  await page.reload();
  await reads(page, "headline", "Training");
  const join = (await messages()).find((message) => message.type === "join");
  expect(join).toMatchObject({ config: { name: "Ada" }, guest: { paused: false, preferences: { intensity: 0.25 } } });
  expect(await page.getByLabel("Data limit in MB per hour").inputValue()).toBe("250");
});

browserTest("the bytes of the last hour survive a reload", async () => {
  const minute = Math.floor(Date.now() / 60_000);
  const used: typeof usage = { ...usage, usage: { ...usage.usage, record: [[minute, 48_500_000]] } };
  await scriptSession(context, [working], [used]);
  const page = await context.newPage();
  const messages = await told(page);
  await page.goto(`${pages.url}?join`);
  await reads(page, "data", "48.5 MB in the last hour");
  await page.reload();
  await reads(page, "headline", "Training");
  expect((await messages()).find((message) => message.type === "join")).toMatchObject({
    record: [[minute, 48_500_000]],
  });
});

browserTest("the browser's word of the network and of freezing goes on to the session thread", async () => {
  await scriptSession(context, [working]);
  const page = await context.newPage();
  const messages = await told(page);
  await page.goto(`${pages.url}?join`);
  await reads(page, "headline", "Training");
  await page.evaluate(() => {
    dispatchEvent(new Event("offline"));
    dispatchEvent(new Event("online"));
    document.dispatchEvent(new Event("freeze"));
    document.dispatchEvent(new Event("resume"));
  });
  const heard = (await messages()).flatMap((message): (string | boolean)[] => {
    if (message.type === "network") return [message.reason];
    return message.type === "guest" ? [message.guest.frozen] : [];
  });
  expect(heard.slice(-4)).toEqual(["this machine went offline", "this machine is online again", true, false]);
});

browserTest("what this browser does not tell or cannot do is not offered, and said", async () => {
  const page = await context.newPage();
  await page.addInitScript(() => {
    Reflect.deleteProperty(Navigator.prototype, "getBattery");
    Reflect.deleteProperty(Navigator.prototype, "wakeLock");
  });
  await page.goto(pages.url);
  await page.getByText("This browser does not tell whether the device is plugged in.").waitFor();
  await page.getByText("This browser cannot keep the screen on.").waitFor();
  expect(await page.locator("#plugged").isDisabled()).toBe(true);
  expect(await page.locator("#awake").isDisabled()).toBe(true);
});

browserTest("the page speaks Chinese to who asks for it, and remembers", async () => {
  await context.close();
  context = await browser.newContext({ locale: "zh-CN" });
  await answerStatus(context, status);
  const page = await open();
  await reads(page, "headline", "随时可以开始");
  expect(await page.locator("html").getAttribute("lang")).toBe("zh");
  await page.getByLabel("语言", { exact: true }).selectOption("en");
  await reads(page, "headline", "Ready when you are");
  await page.reload();
  await reads(page, "headline", "Ready when you are");
  await page.goto(`${pages.url}?language=zh`);
  await reads(page, "headline", "随时可以开始");
  await page.getByRole("link", { name: "看模型" }).waitFor();
  await page.goto(`${pages.url}dashboard.html`);
  await page.getByRole("heading", { name: "检查点" }).waitFor();
});

browserTest("[axe] no violation, before, during and in trouble, in light and dark", async () => {
  for (const state of [null, fallenBack, dataUsedUp, offline]) {
    if (state !== null) await scriptSession(context, [state], [usage]);
    const page = await open(state === null ? "" : "?join");
    await reads(page, "steps", "Step");
    await page.locator("canvas").waitFor();
    expect(await violations(page), state?.phase?.name ?? "idle").toEqual([]);
    // Dark differs by its colours alone.
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await violations(page, ["color-contrast"]), `dark, ${state?.phase?.name ?? "idle"}`).toEqual([]);
    await page.close();
  }
});

browserTest("[weight] what is needed before joining is at most 60 kB gzipped, the chart included", async () => {
  const page = await open();
  await page.locator("canvas").waitFor();
  const urls = await page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => name));
  const files = [pages.url, ...urls.filter((url) => url.includes("/assets/"))];
  let bytes = 0;
  for (const file of files)
    bytes += gzipSync(new Uint8Array(await (await fetch(file)).arrayBuffer()), { level: 9 }).length;
  expect(files.length).toBeGreaterThan(3);
  expect(bytes, files.join(" ")).toBeLessThanOrEqual(60_000);
});

browserTest("[screenshots] the pages look as in docs/img", async () => {
  for (const picture of pictures) {
    expect(difference(picture.name, await takePicture(browser, pages.url, picture)), picture.name).toBeLessThan(LOOKS_THE_SAME); // prettier-ignore
  }
});
