/** @file The compiled step in a real Chromium: what a worker takes, and what it falls back to. */
import "@tensorflow/tfjs-backend-cpu";
import { afterAll, beforeAll, expect } from "vitest";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { tfjsWork } from "../../../worker-node/tfjsWork.ts";
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

browserTest(
  "tfjs goes on upon the device that the compiled step had, or upon another one where that had an error",
  async () => {
    for (const breakFirst of [false, true]) {
      const { page } = await harness.open();
      const found = await page.evaluate((breakFirst) => globalThis.harness.devicesOfFallback(breakFirst), breakFirst);
      expect(found).toEqual({ devices: breakFirst ? 2 : 1, fault: null });
    }
  },
);

browserTest(
  "one θ: logits of the compiled step and attention by tfjs are those of tfjs with a θ of its own",
  async () => {
    const { page, complaints } = await harness.open();
    complaints.length = 0;
    for (const index of [0, 2]) {
      const { thetaBytes, ...found } = await page.evaluate((index) => globalThis.harness.shareTheta(index), index);
      expect(Math.max(...found.logits)).toBeLessThan(1e-5);
      // The same kernels on the same bytes.
      expect(found.attention).toEqual([0, 0]);
      expect(found).toMatchObject({ leaked: 0, after: 0, fault: null });
      // A copy would be four for each parameter; some activation may wait for its end.
      expect(thetaBytes).toBeLessThan(engineCases[index]!.layout.parameters / 4);
    }
    expect(complaints).toEqual([]);
  },
);

browserTest("a compiled step that differs from tfjs on the model does not write", async () => {
  const { page } = await harness.open();
  expect(await page.evaluate(() => globalThis.harness.writerWithWrongKernel())).toMatch(/its logits are off by \d/);
});

browserTest("a token of the compiled step takes a fraction of the JavaScript that it takes op by op", async () => {
  const { page } = await harness.open();
  const { compiledMs, eagerMs } = await page.evaluate(() => globalThis.harness.tokenTimes());
  console.log(`JavaScript a token, tiny: ${compiledMs.toFixed(2)} ms compiled, ${eagerMs.toFixed(2)} ms op by op, ${(eagerMs / compiledMs).toFixed(1)} times`); // prettier-ignore
  // Far from what a quiet machine shows: both are slower where others work.
  expect(eagerMs / compiledMs).toBeGreaterThan(2);
});

browserTest("what `explain` says that tfjs would dispatch is what it dispatches", async () => {
  const { page } = await harness.open();
  // Without dropout and with it.
  for (const index of [0, 1]) {
    const { spec, layout, batch } = engineCases[index]!;
    const found = await page.evaluate((index) => globalThis.harness.dispatchesOpByOp(index), index);
    const { maxBindings, dispatches } = found;
    expect(await tfjsWork({ spec, layout, batchSize: batch.batchSize, maxBindings })).toHaveLength(dispatches);
  }
});

browserTest("where gradients travel as i8, the compiled step encodes them, to the bit", async () => {
  const { page } = await harness.open();
  expect(await page.evaluate(() => globalThis.harness.encodeAsWorker(1))).toEqual({ fallbacks: [], differing: 0 });
});
