import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { dropoutMasks } from "../../../shared/model/dropoutMask.ts";
import { gptDropoutSites } from "../../../shared/model/gptTensors.ts";
import { type EngineCase, engineCases, relativeL2 } from "../../support/engineCases.ts";
import { finiteDifferences, gptLossF64 } from "../../support/gptF64.ts";

describe.each(engineCases)("$name", (engineCase) => {
  test("loss and gradient equal a second implementation in f64 and its finite differences", async () => {
    const { spec, layout, params, batch } = engineCase;
    const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
    await engine.load(params);
    const gradient = new Float32Array(layout.length).fill(7);
    const { lossSum, tokens } = await engine.gradient(batch, gradient);
    const oracle = (theta: Float64Array) =>
      gptLossF64(spec, layout, theta, batch.inputs, batch.targets, factorsOf(engineCase));
    const theta = Float64Array.from(params);
    expect(tokens).toBe(batch.targets.filter((target) => target >= 0).length);
    expect(Math.abs(lossSum / oracle(theta) - 1)).toBeLessThan(1e-6);
    for (const { name, offset, size } of layout.slots) {
      const indices = Array.from(
        { length: Math.min(size, 16) },
        (_, i) => offset + Math.floor((i * size) / Math.min(size, 16)),
      );
      const expected = finiteDifferences(oracle, theta, indices);
      const found = indices.map((index) => gradient[index] ?? Number.NaN);
      expect(relativeL2(found, expected), name).toBeLessThan(1e-5);
    }
    for (const [i, { offset, size }] of layout.slots.entries()) {
      const padding = gradient.subarray(offset + size, layout.slots[i + 1]?.offset ?? layout.length);
      expect(padding.every((value) => value === 0)).toBe(true);
    }
    await engine.dispose();
  });
});

test.each(engineCases)(
  "attention equals the second implementation's, head by head: $name",
  async ({ spec, layout, params, batch }) => {
    // prettier-ignore
    const { context, layers, heads } = spec;
    const inputs = batch.inputs.slice(0, context);
    const length = Math.max(1, context - 2);
    const expected = new Float64Array(layers * heads * length * length);
    gptLossF64(spec, layout, Float64Array.from(params), inputs, inputs, undefined, ({ layer, head, query, key, p }) => {
      if (query < length) expected[((layer * heads + head) * length + query) * length + key] = p;
    });
    const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
    await engine.load(params);
    const before = tf.memory().numTensors;
    const found = await engine.attention(inputs, length);
    expect(tf.memory().numTensors).toBe(before);
    expect(found.length).toBe(expected.length);
    for (const [i, p] of found.entries()) expect(Math.abs(p - (expected[i] ?? NaN))).toBeLessThan(1e-5);
    await expect(engine.attention(inputs, context + 1)).rejects.toThrow(/length/);
    await engine.dispose();
  },
);

test("a step leaves no tensor behind", async () => {
  const { spec, layout, params, batch } = engineCases[1] as EngineCase;
  const before = tf.memory().numTensors;
  const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
  await engine.load(params);
  const loaded = tf.memory().numTensors;
  expect(loaded).toBe(before + layout.slots.length);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  await engine.loss(batch);
  const logits = await engine.logits(batch.inputs, batch.batchSize);
  const row = await engine.logitsAt(batch.inputs.slice(0, spec.context), 2);
  expect(row).toEqual(logits.slice(2 * spec.vocabulary, 3 * spec.vocabulary));
  await engine.load(params);
  expect(tf.memory().numTensors).toBe(loaded);
  await engine.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

test("a token outside the vocabulary is refused, with its value", async () => {
  const { spec, layout, params, batch } = engineCases[0] as EngineCase;
  const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
  await engine.load(params);
  const inputs = batch.inputs.slice().fill(spec.vocabulary, 4, 5);
  await expect(engine.loss({ ...batch, inputs })).rejects.toThrow("input token 11 is not in 0…10");
});

/** The case's dropout factors as the oracle asks for them. */
function factorsOf({ spec, batch }: EngineCase): (site: number, sample: number, index: number) => number {
  if (spec.dropout === 0 || !batch.dropout) return () => 1;
  const sites = gptDropoutSites(spec);
  const masks = dropoutMasks(sites, spec.dropout, batch.dropout);
  return (site, sample, index) => {
    const { name, shape } = sites[site] as (typeof sites)[number];
    const size = shape.reduce((product, extent) => product * extent, 1);
    return masks.get(name)?.[sample * size + index] ?? Number.NaN;
  };
}
