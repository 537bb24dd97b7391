/** @file What a compiled step finds, beside what ONNX Runtime finds, and with bugs planted in its kernels. */
import { expect } from "vitest";
import type { Engine } from "../../shared/engine/engine.ts";
import type { Plan } from "../../shared/engine/wgsl/plan.ts";
import { createOnnxEngine } from "../../worker-node/onnxEngine.ts";
import { type EngineCase, relativeL2 } from "./engineCases.ts";

/** The gradient, and behind it the loss. */
export async function resultOf(engine: Engine, { layout, params, batch }: EngineCase): Promise<Float32Array> {
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  const { lossSum } = await engine.gradient(batch, gradient);
  await engine.dispose();
  const whole = new Float32Array(layout.length + 1);
  whole.set(gradient);
  whole[layout.length] = lossSum;
  return whole;
}

const references = new Map<EngineCase, Promise<Float32Array>>();

export function reference(given: EngineCase): Promise<Float32Array> {
  const { spec, layout } = given;
  const found = references.get(given) ?? createOnnxEngine({ spec, layout, threads: 1 }).then((onnx) => resultOf(onnx, given)); // prettier-ignore
  references.set(given, found);
  return found;
}

/** Of the gradient or of the loss, whichever is farther off. */
export function errorOf(found: Float32Array, expected: Float32Array): number {
  return Math.max(relativeL2(found.slice(0, -1), expected.slice(0, -1)), relativeL2(found.slice(-1), expected.slice(-1))); // prettier-ignore
}

/** The plan with one change to the first text of a kernel whose name begins so and that has `from`. */
export function withBug(plan: Plan, kernel: string, from: string, to: string): Plan {
  const planted = plan.pipelines.findIndex(
    (code, i) =>
      code.includes(from) && plan.dispatches.some(({ pipeline, name }) => pipeline === i && name.startsWith(kernel)),
  );
  expect(planted, `no kernel "${kernel}" has the text "${from}"`).toBeGreaterThanOrEqual(0);
  return { ...plan, pipelines: plan.pipelines.map((code, i) => (i === planted ? code.replace(from, to) : code)) };
}
