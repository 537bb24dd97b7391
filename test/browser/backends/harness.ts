/** @file Serves page.ts and opens it: the browser's side of these tests. */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { build, preview } from "vite";
import { launchChromium } from "../../support/chromium.ts";

export type Harness = {
  readonly open: (chromium?: { webgpu?: boolean; args?: readonly string[] }) => Promise<OpenPage>;
  /** The browsers that were opened, not the server. */
  readonly closeBrowsers: () => Promise<void>;
  readonly close: () => Promise<void>;
};

export type OpenPage = {
  readonly page: Page;
  /** Errors and warnings of the console since the page was opened, or since the list was emptied. */
  readonly complaints: string[];
};

export async function serveHarness(): Promise<Harness> {
  const folder = await mkdtemp(join(tmpdir(), "manyhands-backends-"));
  const root = import.meta.dirname;
  const outDir = { outDir: folder, emptyOutDir: true };
  await build({ configFile: false, root, base: "./", logLevel: "error", build: { ...outDir, target: "es2022" } });
  const server = await preview({ configFile: false, root, build: outDir, preview: { port: 0 } });
  let browsers: Browser[] = [];
  const closeBrowsers = async (): Promise<void> => {
    const open = browsers;
    browsers = [];
    for (const browser of open) await browser.close();
  };
  return {
    open: async (chromium) => {
      const browser = await launchChromium(chromium);
      browsers.push(browser);
      const page = await browser.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      await page.goto(server.resolvedUrls?.local[0] ?? "");
      await page.waitForFunction(() => "harness" in globalThis);
      return { page, complaints };
    },
    closeBrowsers,
    close: async () => {
      await closeBrowsers();
      await server.close();
      rmSync(folder, { recursive: true });
    },
  };
}
