/** @file The compiled step in a real Chromium: what a worker takes, and what it falls back to. */
import "@tensorflow/tfjs-backend-cpu";
import { afterAll, beforeAll, expect } from "vitest";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { browserTest, hasChromium } from "../../support/chromium.ts";
import { engineCases, relativeL2 } from "../../support/engineCases.ts";
import { type Harness, serveHarness } from "./harness.ts";

let harness: Harness;

beforeAll(async () => {
  if (hasChromium) harness = await serveHarness();
});

afterAll(() => harness?.close());

browserTest(
  "a worker takes the compiled step, and it computes what tfjs computes, bias and dropout included",
  async () => {
    const { page, complaints } = await harness.open();
    const { spec, layout, params, batch } = engineCases[1]!;
    complaints.length = 0;
    const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
    await engine.load(params);
    const gradient = new Float32Array(layout.length);
    const expected = await engine.gradient(batch, gradient);
    const expectedAlone = await engine.loss(batch);

    const found = await page.evaluate(() => globalThis.harness.computeAsWorker(1));
    expect(found.compiled).toBe(true);
    expect(found.tokens).toBe(expected.tokens);
    expect(Math.abs(found.lossSum / expected.lossSum - 1)).toBeLessThan(3e-6);
    expect(Math.abs(found.lossAlone / expectedAlone.lossSum - 1)).toBeLessThan(3e-6);
    for (const { name, offset, size } of layout.slots) {
      const error = relativeL2(found.gradient.slice(offset, offset + size), gradient.subarray(offset, offset + size));
      expect(error, name).toBeLessThan(1e-5);
    }
    expect(found.fault).toBeNull();
    expect(complaints).toEqual([]);
    console.log(`compiled (${found.device}): first gradient after ${found.startMs.toFixed(0)} ms, JavaScript ${found.hostMs.toFixed(2)} ms a step`); // prettier-ignore
  },
);

browserTest("[I7] a compiled step that broke is passed over with its reason, and WebGPU goes on op by op", async () => {
  const { page } = await harness.open();
  const { backend, compiled, fallbacks } = await page.evaluate(() =>
    globalThis.harness.choose([{ backend: "webgpu", reason: "compiled step: the device was lost" }]),
  );
  expect({ backend, compiled, fallbacks }).toEqual({
    backend: "webgpu",
    compiled: false,
    fallbacks: [{ backend: "webgpu", reason: "compiled step: the device was lost" }],
  });
});
