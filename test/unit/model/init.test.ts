import { expect, test } from "vitest";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { initialParams } from "../../../shared/model/init.ts";
import { presets } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { engineCases, type EngineCase, randomBatch } from "../../support/engineCases.ts";
import { gptLossF64 } from "../../support/gptF64.ts";

const tiny = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 } as const;

test("tiny has nanoGPT's number of parameters, and GPT-2 its published one", () => {
  // nanoGPT prints 0.80M for this configuration, which leaves out the 64×128 position embeddings.
  expect(layoutOf(gptTensors(tiny)).parameters - 64 * 128).toBe(65 * 128 + 4 * (12 * 128 * 128 + 2 * 128) + 128);
  const gpt2 = { kind: "gpt", ...presets.gpt2, vocabulary: 50257, dropout: 0 } as const;
  expect(layoutOf(gptTensors(gpt2)).parameters).toBe(124_439_808);
});

test("weights have deviation 0.02, residual projections 0.02/√(2·layers), gains 1", () => {
  const layout = layoutOf(gptTensors(tiny));
  const params = initialParams(tiny, layout, 1337);
  const deviation = (name: string) => {
    const slot = layout.slots.find((slot) => slot.name === name);
    const values = params.subarray(slot?.offset, (slot?.offset ?? 0) + (slot?.size ?? 0));
    return Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
  };
  expect(deviation("h.2.mlp.c_fc.weight")).toBeCloseTo(0.02, 3);
  expect(deviation("h.2.mlp.c_proj.weight")).toBeCloseTo(0.02 / Math.sqrt(8), 4);
  expect(deviation("h.0.ln_1.weight")).toBe(1);
});

test("the same seed gives the same bits, another seed or tensor other values", () => {
  const { spec, layout } = engineCases[0] as EngineCase;
  const first = initialParams(spec, layout, 1);
  expect(initialParams(spec, layout, 1)).toEqual(first);
  expect(initialParams(spec, layout, 2)).not.toEqual(first);
  const [a, b] = ["h.0.mlp.c_fc.weight", "h.1.mlp.c_fc.weight"].map((name) => {
    const slot = layout.slots.find((slot) => slot.name === name);
    return first[slot?.offset ?? 0];
  });
  expect(a).not.toBe(b);
});

test("a fresh model is nearly uniform: loss ln V ± 0.05", () => {
  const spec = { ...tiny, layers: 2, width: 64, context: 16 };
  const layout = layoutOf(gptTensors(spec));
  const batch = randomBatch(spec, 2, 4);
  const tokens = batch.targets.filter((target) => target >= 0).length;
  const params = Float64Array.from(initialParams(spec, layout, 42));
  const loss = gptLossF64(spec, layout, params, batch.inputs, batch.targets) / tokens;
  expect(Math.abs(loss - Math.log(65))).toBeLessThan(0.05);
});
