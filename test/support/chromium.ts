/** @file A real Chromium for tests: found, not downloaded. Missing, it is a visible skip; in CI it is an error. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";
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
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
}
