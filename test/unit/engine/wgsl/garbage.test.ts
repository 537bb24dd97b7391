import { expect, test } from "vitest";
import { stepGraph } from "../../../../shared/engine/stepGraph.ts";
import { createWgslEngine } from "../../../../shared/engine/wgsl/engine.ts";
import { compile, DEFAULT_LIMITS } from "../../../../shared/engine/wgsl/plan.ts";
import { PLAIN } from "../../../../shared/engine/wgsl/variant.ts";
import { gptTensors } from "../../../../shared/model/gptTensors.ts";
import { initialParams } from "../../../../shared/model/init.ts";
import type { ModelSpec } from "../../../../shared/model/spec.ts";
import { layoutOf } from "../../../../shared/numerics/layout.ts";
import { allocated } from "../../../support/allocated.ts";
import { randomBatch } from "../../../support/engineCases.ts";
import { silentDevice } from "../../../support/silentDevice.ts";

async function bytesAStep(layers: number): Promise<number> {
  const spec: ModelSpec = { kind: "gpt", layers, heads: 2, width: 16, context: 8, vocabulary: 11, bias: true, dropout: 0 }; // prettier-ignore
  const layout = layoutOf(gptTensors(spec));
  const engine = await createWgslEngine({
    opened: { device: silentDevice(), fault: () => null },
    spec,
    layout,
    limits: DEFAULT_LIMITS,
    nowMs: () => performance.now() / 1e6,
    planFor: (kind, batchSize) =>
      compile(stepGraph(kind, spec, layout, batchSize), { layout, limits: DEFAULT_LIMITS, dropout: 0, variant: PLAIN }),
  });
  await engine.load(initialParams(spec, layout, 1));
  const batch = randomBatch(spec, 2, 1);
  const gradient = new Float32Array(layout.length);
  const bytes = await allocated({ warmUp: 10_000, steps: 3000 }, () => engine.gradient(batch, gradient));
  expect(engine.lastStep().submits).toBe(1);
  await engine.dispose();
  return bytes;
}

test("a step leaves some hundred bytes of objects, and nothing for a dispatch", async () => {
  const [shallow, deep] = [await bytesAStep(1), await bytesAStep(6)];
  expect(shallow).toBeLessThan(1100);
  expect(deep).toBeLessThan(shallow + 150);
});
