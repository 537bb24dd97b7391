/** @file What an engine compiles, without the model's code: kinds of steps, and the inputs and outputs of their graphs. */
import type { TensorSpec } from "../model/ops/op.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { maskShapes } from "./batch.ts";

export type StepKind = "gradient" | "loss" | "logits";

/** Prefixes of the graph's input and output names: a parameter, its gradient, a dropout mask. */
export const PARAM = "param:";
export const GRADIENT = "gradient:";
export const MASK = "mask:";

/** Every parameter, `inputs` [N] int32, and as needed `targets` [N] int32 and every mask: by name, in this order. */
export function stepInputs(
  kind: StepKind,
  spec: ModelSpec,
  layout: ParamLayout,
  batchSize: number,
): Record<string, TensorSpec> {
  const tokens: TensorSpec = { shape: [batchSize * spec.context], dtype: "int32" };
  const masks = kind === "gradient" ? maskShapes(spec, batchSize) : [];
  const inputs: Record<string, TensorSpec> = { inputs: tokens, ...(kind !== "logits" && { targets: tokens }) };
  for (const { name, shape } of layout.slots) inputs[PARAM + name] = { shape, dtype: "float32" };
  for (const { name, shape } of masks) inputs[MASK + name] = { shape, dtype: "float32" };
  return inputs;
}

/** `loss`, or `logits` [N, V]; and of a gradient step every parameter's gradient. */
export function stepOutputs(
  kind: StepKind,
  spec: ModelSpec,
  layout: ParamLayout,
  batchSize: number,
): Record<string, TensorSpec> {
  if (kind === "logits") {
    return { logits: { shape: [batchSize * spec.context, spec.vocabulary], dtype: "float32" } };
  }
  const outputs: Record<string, TensorSpec> = { loss: { shape: [], dtype: "float32" } };
  if (kind === "loss") return outputs;
  for (const { name, shape } of layout.slots) outputs[GRADIENT + name] = { shape, dtype: "float32" };
  return outputs;
}
