/** @file A real Chromium for tests: found, not downloaded. Missing, it is a visible skip; in CI it is an error. */
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { type Browser, type BrowserContext, chromium } from "playwright-core";
import { test } from "vitest";

const candidates = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

const executablePath = candidates.find((path) => path !== undefined && existsSync(path));

const missing = "no Chromium found: install it (Debian: apt-get install chromium) or name it in CHROMIUM_PATH";

if (executablePath === undefined && process.env["CI"] === "true") throw new Error(missing);

export const hasChromium: boolean = executablePath !== undefined;

/** `test`, for what needs a browser. */
export function browserTest(name: string, body: () => Promise<void>): void {
  if (executablePath === undefined) test(name, (context) => context.skip(missing));
  else test(name, body);
}

/** With WebGPU on SwiftShader, Chromium's software adapter: correct and slow. A fresh profile each time. */
export async function launchChromium({
  webgpu = true,
  args = [],
}: { webgpu?: boolean; args?: readonly string[] } = {}): Promise<Browser> {
  if (executablePath === undefined) throw new Error(missing);
  return chromium.launch({
    executablePath,
    args: [
      // CI runs as root, where Chromium refuses its sandbox.
      "--no-sandbox",
      // Without it there is no adapter.
      ...(webgpu ? ["--enable-unsafe-webgpu"] : []),
      // SwiftShader unrolls Vulkan's own clearing of workgroup memory: ten times the compiling.
      "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
}

/**
 * The same, but tabs hide each other as they do for people, where playwright keeps every page visible and focused: what hidden
 * and frozen pages do can only be seen here.
 */
export async function launchChromiumWithTabs(
  args: readonly string[],
): Promise<{ readonly browser: Browser; readonly context: BrowserContext; readonly close: () => Promise<void> }> {
  const port = await freePort();
  const launched = await launchChromium({ args: [`--remote-debugging-port=${port}`, ...args] });
  const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
  const [context] = browser.contexts();
  if (context === undefined) throw new Error("a browser without its own context");
  return {
    browser,
    context,
    close: async () => {
      await browser.close();
      await launched.close();
    },
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
