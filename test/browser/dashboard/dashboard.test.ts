/** @file The operator's page in a real Chromium, on a real coordinator with a real worker. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { WebSocket } from "ws";
import { encodeFrame } from "../../../shared/wire/frame.ts";
import { PROTOCOL_VERSION } from "../../../shared/wire/protocol.ts";
import type { Checkpoints, Curves } from "../../../shared/wire/dashboard.ts";
import { violations } from "../../support/axe.ts";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator, type CoordinatorProcess } from "../../support/coordinatorProcess.ts";

const ADMIN = "the-admin-token-of-this-test";
const RUN = "watched";

let dir: string;
let coordinator: CoordinatorProcess;
let browser: Browser;
let context: BrowserContext;
let errors: string[];

beforeAll(async () => {
  if (!hasChromium) return;
  dir = mkdtempSync(join(tmpdir(), "manyhands-dashboard-"));
  coordinator = await start();
  browser = await launchChromium({ webgpu: false });
  await coordinator.until(({ version }) => version >= 12);
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  coordinator.child.kill("SIGTERM");
  await coordinator.exit;
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  if (!hasChromium) return;
  errors = [];
  context = await browser.newContext({ locale: "en-GB" });
  context.on("weberror", (error) => errors.push(String(error.error())));
});

afterEach(async () => {
  if (!hasChromium) return;
  await context.close();
  await admin("resume");
  expect(errors).toEqual([]);
});

function start(port = 0): Promise<CoordinatorProcess> {
  const flags = ["--steps", "1000000", "--workers", "1", "--snapshot-every", "5", "--evaluate-every", "4", "--admin-token", ADMIN]; // prettier-ignore
  return startCoordinator(["--run", RUN, ...smallRun(dir, smallCorpus(dir)), ...flags, "--port", String(port)]);
}

async function admin(action: string, method = "POST"): Promise<unknown> {
  const response = await fetch(`${coordinator.url}/admin/${action}`, { method, headers: { Authorization: `Bearer ${ADMIN}` } }); // prettier-ignore
  return response.json();
}

async function open(path = "/dashboard"): Promise<Page> {
  const page = await context.newPage();
  await page.goto(coordinator.url + path);
  await page.getByRole("heading", { level: 1, name: RUN }).waitFor({ timeout: 60_000 });
  return page;
}

async function json<T>(path: string): Promise<T> {
  return (await (await fetch(coordinator.url + path)).json()) as T;
}

browserTest("what it shows is what /status, the ledger and the snapshots say", async () => {
  await admin("pause");
  let status = await coordinator.until(({ phase }) => phase === "paused");
  let before = -1;
  // What was leased before may still complete a round, and rounds are taken in once a second: until both stand still.
  const standsStill = async (): Promise<boolean> => {
    const { newest } = await json<Curves>("/dashboard/curves");
    status = await coordinator.status();
    const isSame = status.version === before && newest === before;
    before = status.version;
    return isSame;
  };
  await expect.poll(standsStill, { timeout: 30_000, interval: 2000 }).toBe(true);
  const page = await open();
  await page.locator(".phase", { hasText: "paused" }).waitFor();
  expect(await page.locator(".run p").first().textContent()).toContain(
    `step ${status.version.toLocaleString("en")} of 1,000,000`,
  );
  expect(await page.locator("#reason").textContent()).toBe(status.reason);

  const database = new DatabaseSync(join(dir, "runs", RUN, "ledger.sqlite"), { readOnly: true });
  const last = database.prepare("SELECT * FROM round ORDER BY version DESC LIMIT 1").get() as Record<string, number>;
  const evaluated = database
    .prepare("SELECT lossSum / tokens AS loss FROM evaluation ORDER BY version DESC LIMIT 1")
    .get() as { loss: number };
  const rounds = database.prepare("SELECT count(*) AS count FROM round").get() as { count: number };
  database.close();
  const curves = await json<Curves>("/dashboard/curves?points=2000");
  expect(curves.version.at(-1)).toBe(last["version"]);
  expect(curves.span * curves.version.length).toBeGreaterThanOrEqual(rounds.count);
  const loss = await page.locator("figure", { hasText: "nats per token" }).locator("p").textContent();
  if (curves.span === 1) expect(loss).toContain(`training ${(last["lossSum"]! / last["tokens"]!).toFixed(3)}`);
  expect(loss).toContain(`validation ${evaluated.loss.toFixed(3)}`);

  const rows = page.locator("tr[data-worker]");
  expect(await rows.count()).toBe(status.workers.length);
  expect(await rows.first().getAttribute("data-worker")).toBe(status.workers[0]?.worker);
  expect(await rows.first().textContent()).toContain("onnx");
  expect(await rows.first().locator(".device").textContent()).toBe(status.workers[0]?.device);
  expect(status.workers[0]?.device).toMatch(/, \d+ cores$/);

  const { checkpoints } = await json<Checkpoints>("/dashboard/checkpoints");
  expect(checkpoints.length).toBeGreaterThan(2);
  const links = page.locator("section[aria-labelledby=checkpoints] a[download]");
  await expect.poll(() => links.count()).toBe(checkpoints.length);
  for (const { path, bytes } of checkpoints.slice(0, 3)) {
    const response = await fetch(`${coordinator.url}/${path}`);
    expect(response.headers.get("cache-control")).toContain("immutable");
    expect((await response.arrayBuffer()).byteLength).toBe(bytes);
  }
});

browserTest("figures move by themselves, and the last round is on the chart", async () => {
  const page = await open();
  const step = async (): Promise<number> => Number(/step ([\d,]+)/.exec((await page.locator(".run p").first().textContent()) ?? "")?.[1]?.replaceAll(",", "")); // prettier-ignore
  const before = await step();
  const figures = page.locator("figure .sr-only");
  await figures.nth(6).waitFor({ state: "attached", timeout: 30_000 });
  const [loss] = await figures.allTextContents();
  await expect.poll(step, { timeout: 30_000 }).toBeGreaterThan(before + 3);
  await expect.poll(async () => (await figures.allTextContents())[0], { timeout: 30_000 }).not.toBe(loss);
  expect(await page.locator("canvas").count()).toBeGreaterThanOrEqual(6);
  await page.locator(".answers", { hasText: "a round every" }).waitFor({ timeout: 20_000 });
});

browserTest("an action asks for the token, is refused with a wrong one, and done with the right one", async () => {
  const page = await open();
  const press = (name: string): Promise<void> => page.getByRole("button", { name, exact: true }).click();
  const answer = async (token: string): Promise<void> => {
    await page.getByRole("dialog").getByLabel("Token").fill(token);
    await press("Go on");
  };
  await press("Pause");
  await answer("wrong");
  await page.getByText("Refused: the admin token is missing or wrong").waitFor();
  expect((await coordinator.status()).phase).not.toBe("paused");
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);

  await press("Pause");
  await answer(ADMIN);
  await page.getByText("Done: Pause.").waitFor();
  await coordinator.until(({ phase }) => phase === "paused");
  await press("Resume");
  await page.getByText("Done: Resume.").waitFor();
  await coordinator.until(({ phase }) => phase !== "paused");
  expect(await page.evaluate(() => [localStorage.length, sessionStorage.length])).toEqual([0, 1]);

  await press("Pause");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await coordinator.until(({ phase }) => phase === "paused");
  await press("Forget the admin token");
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  await press("Resume");
  await press("Cancel");
  expect((await coordinator.status()).phase, "nothing happens without the token").toBe("paused");
});

browserTest("an invite is made, shown as an address and a QR code, listed and revoked", async () => {
  const page = await open();
  await page.getByLabel("For whom").fill("the class of 4b");
  await page.getByRole("button", { name: "Make an invite" }).click();
  await page.getByRole("dialog").getByLabel("Token").fill(ADMIN);
  await page.getByRole("button", { name: "Go on" }).click();
  const address = await page.locator("output").textContent();
  expect(address).toMatch(new RegExp(`^${coordinator.url}/#token=[\\w.-]{40,}$`));
  expect(await page.locator(".qr svg").count()).toBe(1);
  await page.getByRole("button", { name: "Show invites" }).click();
  const row = page.locator("section[aria-labelledby=invites] tbody tr");
  await row.getByText("the class of 4b").waitFor();
  await row.getByRole("button", { name: "Revoke" }).click();
  await row.getByText("revoked").waitFor();
  const { invites } = (await admin("invites", "GET")) as { invites: { revokedMs: number | null }[] };
  expect(invites.map(({ revokedMs }) => revokedMs === null)).toEqual([false]);
});

browserTest("a worker is banned with its machine in sight, the ban is listed, and lifted", async () => {
  const stranger = new WebSocket(`${coordinator.url.replace("http", "ws")}/socket`);
  await once(stranger, "open");
  stranger.send(encodeFrame({ type: "hello", protocolVersion: PROTOCOL_VERSION, kind: "node", name: "stranger", device: "a toaster, 1 core" })); // prettier-ignore
  const closed = once(stranger, "close");
  const page = await open();
  const row = page.locator("tr[data-worker]", { hasText: "stranger" });
  await row.getByText("a toaster, 1 core").waitFor();
  const worker = await row.getAttribute("data-worker");
  page.on("dialog", (dialog) => void dialog.accept());
  await row.getByRole("button", { name: "Ban stranger" }).click();
  await page.getByRole("dialog").getByLabel("Token").fill(ADMIN);
  await page.getByRole("button", { name: "Go on" }).click();
  await closed;
  await page.getByRole("button", { name: "Show bans" }).click();
  const banned = page.locator("section[aria-labelledby=bans] tbody tr");
  await banned.getByText(worker!).waitFor();
  await banned.getByRole("button", { name: `Lift the ban of ${worker}` }).click();
  await page.getByText("Nobody is banned.").waitFor();
  expect(await admin("bans", "GET")).toEqual({ bans: [] });
});

browserTest("a part of the run can be looked at, and all of it again", async () => {
  const page = await open();
  // All charts in sight: the others are drawn when somebody looks.
  await page.setViewportSize({ width: 1366, height: 1800 });
  await page.locator("figure canvas").first().waitFor();
  await page.getByLabel("From step").fill("3");
  await page.getByLabel("to", { exact: true }).fill("9");
  const asked = page.waitForResponse((response) => response.url().includes("from=3&to=9"));
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const curves = (await (await asked).json()) as Curves;
  expect(curves.version).toEqual([3, 4, 5, 6, 7, 8, 9]);
  // The legends have the last step's values: every chart shows this part, and stays with it.
  const lastSteps = async (): Promise<string[]> => {
    const shown = await page.locator("figure").evaluateAll((figures) => figures.map((figure) => figure.querySelector(".u-value")?.textContent ?? "")); // prettier-ignore
    return shown.slice(0, 6);
  };
  await expect.poll(lastSteps).toEqual(["9", "9", "9", "9", "9", "9"]);

  // Another part, typed while this one is shown and the page is drawn anew every second.
  const drawn = page.waitForFunction((before) => document.querySelector(".run p")?.textContent !== before, await page.locator(".run p").first().textContent()); // prettier-ignore
  await page.getByLabel("From step").fill("5");
  await drawn;
  expect(await page.getByLabel("From step").inputValue()).toBe("5");
  const again = page.waitForResponse((response) => response.url().includes("from=5&to=9"));
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await again;
  expect(await lastSteps()).toEqual(["9", "9", "9", "9", "9", "9"]);
  await page.getByRole("button", { name: "Show all" }).click();
  await expect.poll(async () => (await lastSteps()).includes("9")).toBe(false);
  expect(await page.getByLabel("From step").inputValue()).toBe("");
  expect(await page.getByRole("button", { name: "Show all" }).isDisabled()).toBe(true);
});

browserTest("[I5] readers of live events are bounded; one more is told to come later", async () => {
  const cut = new AbortController();
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => fetch(`${coordinator.url}/dashboard/live`, { signal: cut.signal })),
  );
  const statuses = answers.map((answer) => answer.status);
  cut.abort();
  expect(statuses.filter((status) => status === 200).length).toBe(32);
  expect(statuses.filter((status) => status === 503).length).toBe(8);
  // Who leaves makes room.
  await open();
});

browserTest(
  "[axe] no violation, in light and dark; nothing is wider than a narrow phone; Chinese is spoken",
  async () => {
    const page = await open();
    await page.locator("tr[data-worker]").first().waitFor();
    await page.locator("section[aria-labelledby=checkpoints] a[download]").first().waitFor();
    expect(await violations(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await violations(page, ["color-contrast"])).toEqual([]);
    await page.setViewportSize({ width: 320, height: 640 });
    await expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
    await page.getByLabel("Language").selectOption("zh");
    await page.getByRole("heading", { name: "检查点" }).waitFor();
    expect(await page.locator("html").getAttribute("lang")).toBe("zh");
    expect(await violations(page)).toEqual([]);
  },
);

browserTest(
  "[I4] when the coordinator is killed the page says so, and when it is back it says that and goes on",
  async () => {
    const page = await open();
    await page.locator("figure canvas").first().waitFor();
    coordinator.child.kill("SIGKILL");
    await coordinator.exit;
    await page.getByText("No connection since").waitFor({ timeout: 30_000 });
    await page.locator(".answers", { hasText: "The coordinator does not answer" }).waitFor();
    const before = (await page.locator(".run p").first().textContent()) ?? "";

    coordinator = await start(Number(new URL(coordinator.url).port));
    await page.getByText("The coordinator was started again at").waitFor({ timeout: 60_000 });
    await page.getByText("No connection since").waitFor({ state: "hidden" });
    await expect.poll(() => page.locator(".run p").first().textContent(), { timeout: 60_000 }).not.toBe(before);
    await page.getByRole("button", { name: "Dismiss" }).click();
    expect(await page.getByText("The coordinator was started again").count()).toBe(0);
    // What the browser itself says of a connection that is refused.
    errors.length = 0;
  },
);
