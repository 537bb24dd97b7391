import "@tensorflow/tfjs-backend-cpu";
import { beforeAll, describe, expect, test } from "vitest";
import { judge, tolerances } from "../../../coordinator/round/admission.ts";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import type { Engine } from "../../../shared/engine/engine.ts";
import { examinationBatch, examinationParams, examine, sketchOf } from "../../../shared/engine/examination.ts";
import type { Answer } from "../../../shared/engine/examination.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";

const spec: ModelSpec = { kind: "gpt", layers: 2, heads: 2, width: 12, context: 7, vocabulary: 19, bias: true, dropout: 0.1 }; // prettier-ignore
const layout = layoutOf(gptTensors(spec));
const gradient = new Float32Array(layout.length);
const nowMs = (): number => 0;
let engine: Engine;
let expected: Answer;

beforeAll(async () => {
  engine = await createEagerEngine({ spec, layout, backend: "cpu" });
  ({ answer: expected } = await examine({ engine, spec, layout, batchSize: 3, gradient, nowMs }));
});

const answer = (change: (values: Float32Array) => void, rest: Partial<Answer> = {}): Answer => {
  const values = gradient.slice();
  change(values);
  return { ...expected, sketch: sketchOf(layout, values), ...rest };
};
const slot = (name: string): { offset: number; size: number; shape: readonly number[] } =>
  layout.slots.find((candidate) => candidate.name === name)!;
const reasonOf = (found: Answer): string => {
  const verdict = judge({ layout, activations: "f32" }, "webgpu", found, expected);
  return verdict.admitted ? "admitted" : verdict.reason;
};

test("the examination asks something of every tensor", () => {
  for (const [number, { name }] of layout.slots.entries()) expect(expected.sketch[number * 9], name).toBeGreaterThan(0);
  expect(expected.tokens).toBe(examinationBatch(spec, 3).targets.filter((target) => target >= 0).length);
  expect(expected.tokens).toBeLessThan(3 * spec.context);
});

test("the right answer is admitted, and one that differs by rounding", () => {
  expect(judge({ layout, activations: "f32" }, "onnx", expected, expected)).toEqual({ admitted: true });
  const rounded = answer((values) => values.forEach((value, i) => (values[i] = value * (1 + (i % 2 ? 2e-5 : -2e-5)))));
  for (const backend of Object.keys(tolerances) as (keyof typeof tolerances)[]) {
    expect(judge({ layout, activations: "f32" }, backend, rounded, expected)).toEqual({ admitted: true });
  }
});

test("16-bit activations are admitted where the run allows them, on GPUs only, and no further", () => {
  const [near, far] = [5e-3, 5e-2].map((by) =>
    answer((values) => values.forEach((value, i) => (values[i] = value * (1 + (i % 2 ? by : -by))))),
  );
  expect(judge({ layout, activations: "f16" }, "webgpu", near!, expected).admitted).toBe(true);
  expect(judge({ layout, activations: "f32" }, "webgpu", near!, expected).admitted).toBe(false);
  expect(judge({ layout, activations: "f16" }, "onnx", near!, expected).admitted).toBe(false);
  expect(judge({ layout, activations: "f16" }, "webgpu", far!, expected).admitted).toBe(false);
});

describe("a broken machine is refused and told why", () => {
  const weights = "h.1.mlp.c_fc.weight";
  test.each<[string, (values: Float32Array) => void]>([
    ["one tensor of noise", (values) => fillNoise(values, weights)],
    [
      "one tensor of zeros",
      (values) => values.fill(0, slot(weights).offset, slot(weights).offset + slot(weights).size),
    ],
    ["rows of a tensor in another order", (values) => swapRows(values, weights)],
    ["one tensor's sign", (values) => scale(values, weights, -1)],
    ["one tensor one percent too large", (values) => scale(values, weights, 1.01)],
    ["one bias wrong", (values) => scale(values, "h.0.ln_2.bias", 0)],
    ["NaN in one place", (values) => (values[slot(weights).offset + 3] = NaN)],
    ["infinity in one place", (values) => (values[slot(weights).offset + 3] = Infinity)],
  ])("%s, by the tensor's name", (_, change) => {
    expect(reasonOf(answer(change))).toMatch(/gradient of (h\.1\.mlp\.c_fc\.weight|h\.0\.ln_2\.bias) by \S+ \(relative\), webgpu may differ by 5\.0e-4/); // prettier-ignore
  });

  test.each<[string, (value: number) => number]>([
    ["every sign", (value) => -value],
    ["zero", () => 0],
    ["NaN", () => NaN],
    ["a scale of 1.002", (value) => 1.002 * value],
  ])("the whole gradient: %s", (_, change) => {
    expect(reasonOf(answer((values) => values.forEach((value, i) => (values[i] = change(value)))))).toMatch(
      /gradient of/,
    );
  });

  test("the loss", () => {
    expect(reasonOf({ ...expected, lossSum: expected.lossSum * 1.01 })).toMatch(/loss is off by 1\.0e-2/);
    expect(reasonOf({ ...expected, lossSum: NaN })).toMatch(/loss is off by NaN/);
  });

  test("another batch, other parameters, another number of tokens, another model", async () => {
    await engine.load(examinationParams(layout));
    const found = new Float32Array(layout.length);
    const batch = examinationBatch(spec, 3);
    await engine.gradient({ ...batch, inputs: batch.inputs.toReversed() }, found);
    expect(reasonOf({ ...expected, sketch: sketchOf(layout, found) })).toMatch(/gradient of/);
    await engine.load(examinationParams(layout).map((value) => value * 0.99));
    await engine.gradient(batch, found);
    expect(reasonOf({ ...expected, sketch: sketchOf(layout, found) })).toMatch(/gradient of/);
    expect(reasonOf({ ...expected, tokens: 21 })).toBe("21 tokens counted instead of 18");
    expect(reasonOf({ ...expected, sketch: new Float64Array(9) })).toMatch(/9 numbers instead of/);
  });
});

function scale(values: Float32Array, name: string, by: number): void {
  const { offset, size } = slot(name);
  for (let i = offset; i < offset + size; i++) values[i]! *= by;
}

/** Of the right norm. */
function fillNoise(values: Float32Array, name: string): void {
  const { offset, size } = slot(name);
  values.subarray(offset, offset + size).reverse();
}

function swapRows(values: Float32Array, name: string): void {
  const { offset, shape } = slot(name);
  const columns = shape[1]!;
  const first = values.slice(offset, offset + columns);
  values.copyWithin(offset, offset + columns, offset + 2 * columns);
  values.set(first, offset + columns);
}
