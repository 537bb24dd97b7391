/** @file Every tfjs backend, in a real Chromium, against tfjs' cpu backend in Node: same loss, same gradients. */
import "@tensorflow/tfjs-backend-cpu";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { build, preview, type PreviewServer } from "vite";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { backends } from "../../../worker-browser/engineOrder.ts";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { engineCases, relativeL2 } from "../../support/engineCases.ts";

/** f32 sums in another order: engines here agree to a few 1e-7; the promise is 1e-4. */
const TOLERANCE = 1e-4;

/** Bias, dropout, several layers and heads, ignored targets; few, because each compiles its own shaders on SwiftShader. */
const CASES = [0, 1];

let folder: string;
let server: PreviewServer;
let browser: Browser;
let page: Page;
const consoleErrors: string[] = [];

beforeAll(async () => {
  if (!hasChromium) return;
  folder = await mkdtemp(join(tmpdir(), "manyhands-backends-"));
  const root = import.meta.dirname;
  await build({
    configFile: false,
    root,
    base: "./",
    logLevel: "warn",
    build: { outDir: folder, emptyOutDir: true, target: "es2022" },
  });
  server = await preview({ configFile: false, root, build: { outDir: folder }, preview: { port: 0 } });
  browser = await launchChromium();
  page = await browser.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") consoleErrors.push(message.text());
  });
  page.on("pageerror", (error) => consoleErrors.push(String(error)));
  await page.goto(server.resolvedUrls?.local[0] ?? "");
  await page.waitForFunction(() => "computeOn" in globalThis);
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

describe.each(CASES)("engine case %i", (index) => {
  for (const backend of backends) {
    browserTest(`${backend} computes the loss and every gradient that Node's cpu backend computes`, async () => {
      consoleErrors.length = 0;
      const { spec, layout, params, batch } = engineCases[index]!;
      const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
      await engine.load(params);
      const gradient = new Float32Array(layout.length);
      const expected = await engine.gradient(batch, gradient);
      const expectedAlone = await engine.loss(batch);
      await engine.dispose();

      const found = await page.evaluate(([backend, index]) => globalThis.computeOn(backend, index), [backend, index] as const); // prettier-ignore

      expect(found.tokens).toBe(expected.tokens);
      expect(found.lossSum / expected.lossSum).toBeCloseTo(1, 4);
      expect(found.lossAlone / expectedAlone.lossSum).toBeCloseTo(1, 4);
      for (const { name, offset, size } of layout.slots) {
        const error = relativeL2(found.gradient.slice(offset, offset + size), gradient.subarray(offset, offset + size));
        expect(error, `${backend} on ${found.device}: gradient of ${name}`).toBeLessThan(TOLERANCE);
      }
      const total = relativeL2(found.gradient, gradient);
      console.log(`${backend} (${found.device}): loss off by ${(found.lossSum / expected.lossSum - 1).toExponential(1)}, gradient by ${total.toExponential(1)}`); // prettier-ignore
      expect(found.leaked).toBe(0);
      expect(found.fault).toBeNull();
      expect(consoleErrors).toEqual([]);
    });
  }
});
