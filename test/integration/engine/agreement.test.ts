import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine } from "../../../shared/engine/engine.ts";
import { createNodeEngine } from "../../../worker-node/engine.ts";
import { engineCases, largeCases, relativeL2 } from "../../support/engineCases.ts";

describe.each([...engineCases, ...largeCases])("$name", ({ spec, layout, params, batch }) => {
  const engines = new Map<string, Engine>();
  beforeAll(async () => {
    for (const preference of ["cpu", "wasm", "onnx"] as const) {
      const { engine } = await createNodeEngine({ spec, layout, threads: 1, preference });
      await engine.load(params);
      engines.set(preference, engine);
    }
  });
  afterAll(async () => {
    for (const engine of engines.values()) await engine.dispose();
  });

  test.each(["wasm", "onnx"])("%s agrees with tfjs cpu on loss and every gradient", async (name) => {
    const [expected, found] = [new Float32Array(layout.length), new Float32Array(layout.length).fill(3)];
    const reference = await engines.get("cpu")?.gradient(batch, expected);
    const loss = await engines.get(name)?.gradient(batch, found);
    expect(loss?.tokens).toBe(reference?.tokens);
    // wasm adds the losses of up to 1,536 tokens one after another in f32: 1.02e-6 measured.
    expect(Math.abs((loss?.lossSum ?? 0) / (reference?.lossSum ?? 0) - 1)).toBeLessThan(3e-6);
    for (const slot of layout.slots) {
      const [a, b] = [found, expected].map((flat) => flat.subarray(slot.offset, slot.offset + slot.size));
      // Measured ≤ 3e-6; the models here are small, so single cancellations weigh more than in a real one.
      expect(relativeL2(a ?? [], b ?? []), slot.name).toBeLessThan(1e-5);
    }
    expect(relativeL2(found, expected)).toBeLessThan(1e-5);
  });

  test.each(["wasm", "onnx"])("%s agrees with tfjs cpu on loss alone and logits, without dropout", async (name) => {
    const reference = await engines.get("cpu")?.loss(batch);
    const loss = await engines.get(name)?.loss(batch);
    expect(Math.abs((loss?.lossSum ?? 0) / (reference?.lossSum ?? 0) - 1)).toBeLessThan(3e-6);
    const expected = await engines.get("cpu")?.logits(batch.inputs, batch.batchSize);
    const found = await engines.get(name)?.logits(batch.inputs, batch.batchSize);
    expect(found?.length).toBe(batch.inputs.length * spec.vocabulary);
    expect(relativeL2(found ?? [], expected ?? [])).toBeLessThan(1e-5);
  });
});
