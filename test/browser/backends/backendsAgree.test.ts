/** @file Every tfjs backend, in a real Chromium, against tfjs' cpu backend in Node: same loss, same gradients. */
import "@tensorflow/tfjs-backend-cpu";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { browserTest, hasChromium } from "../../support/chromium.ts";
import { engineCases, relativeL2 } from "../../support/engineCases.ts";
import { type Harness, type OpenPage, serveHarness } from "./harness.ts";

/** f32 sums in another order: engines here agree to a few 1e-7; the promise is 1e-4. */
const TOLERANCE = 1e-4;

/** As worker-browser/engine.ts names them; importing that file would load them here. */
const backends = ["webgpu", "webgl", "wasm", "cpu"] as const;

/** Bias, dropout, several layers and heads, ignored targets; few, because each compiles its own shaders on SwiftShader. */
const CASES = [0, 1];

let harness: Harness;
let opened: OpenPage;

beforeAll(async () => {
  if (!hasChromium) return;
  harness = await serveHarness();
  opened = await harness.open();
});

afterAll(() => harness?.close());

describe.each(CASES)("engine case %i", (index) => {
  for (const backend of backends) {
    browserTest(`${backend} computes the loss and every gradient that Node's cpu backend computes`, async () => {
      const { page, complaints } = opened;
      complaints.length = 0;
      const { spec, layout, params, batch } = engineCases[index]!;
      const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
      await engine.load(params);
      const gradient = new Float32Array(layout.length);
      const expected = await engine.gradient(batch, gradient);
      const expectedAlone = await engine.loss(batch);
      await engine.dispose();

      const found = await page.evaluate(([backend, index]) => globalThis.harness.computeOn(backend, index), [backend, index] as const); // prettier-ignore

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
      expect(complaints).toEqual([]);
    });
  }
});
