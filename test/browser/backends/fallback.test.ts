/** @file What a worker takes when its browser has less to offer, and when what it offers fails. */
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { browserTest, hasChromium } from "../../support/chromium.ts";
import { type Harness, serveHarness } from "./harness.ts";

let harness: Harness;

beforeAll(async () => {
  if (hasChromium) harness = await serveHarness();
});

afterEach(() => harness?.closeBrowsers());
afterAll(() => harness?.close());

browserTest("[I7] without a WebGPU adapter WebGL is taken, and the reason is given", async () => {
  const { page } = await harness.open({ webgpu: false });
  expect(await page.evaluate(() => globalThis.harness.choose())).toMatchObject({
    backend: "webgl",
    fallbacks: [{ backend: "webgpu", reason: "there is WebGPU, but no graphics adapter for it" }],
  });
});

browserTest("[I7] without WebGL either, WebAssembly is taken, and both reasons are given", async () => {
  const { page } = await harness.open({ webgpu: false, args: ["--disable-gpu", "--disable-software-rasterizer"] });
  expect(await page.evaluate(() => globalThis.harness.choose())).toMatchObject({
    backend: "wasm",
    fallbacks: [
      { backend: "webgpu", reason: expect.stringContaining("WebGPU") as string },
      { backend: "webgl", reason: "the browser has no WebGL 2 to give" },
    ],
  });
});

for (const backend of ["webgpu", "webgl"] as const) {
  browserTest(`a ${backend} device that goes away is noticed`, async () => {
    const { page } = await harness.open();
    expect(await page.evaluate((backend) => globalThis.harness.loseDevice(backend), backend)).toContain("was lost");
  });
}

browserTest("a shader that does not compile is a fault, though nothing throws", async () => {
  const { page } = await harness.open();
  expect(await page.evaluate(() => globalThis.harness.brokenShader())).toContain("WebGPU error");
});

for (const [backend, kernel] of [
  ["webgpu", "Tanh"],
  ["wasm", "Softmax"],
] as const) {
  browserTest(`${backend} whose ${kernel} is off by one percent does not pass its self-check`, async () => {
    const { page } = await harness.open();
    expect(
      await page.evaluate(([backend, kernel]) => globalThis.harness.examineWithWrongKernel(backend, kernel), [
        backend,
        kernel,
      ] as const),
    ).toMatch(/wrong numbers here: loss off by \S+, gradient by [1-9]/);
  });
}
