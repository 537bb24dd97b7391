/** @file The three graphs an engine compiles for a batch size: a gradient step, the loss alone, the logits alone. */
import * as tf from "@tensorflow/tfjs-core";
import { gptLogits, gptLoss } from "../model/gpt.ts";
import type { TensorSpec } from "../model/ops/op.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { maskShapes } from "./batch.ts";
import type { Graph } from "./graph.ts";
import { GRADIENT, MASK, PARAM, type StepKind } from "./stepKind.ts";
import { trace } from "./trace.ts";

/**
 * Inputs: every parameter, `inputs` [N] int32, and as needed `targets` [N] int32 and every mask. Outputs: `loss` or
 * `logits`, and every parameter's gradient.
 */
export function stepGraph(kind: StepKind, spec: ModelSpec, layout: ParamLayout, batchSize: number): Graph {
  const names = layout.slots.map(({ name }) => name);
  const tokens: TensorSpec = { shape: [batchSize * spec.context], dtype: "int32" };
  const masks = kind === "gradient" ? maskShapes(spec, batchSize) : [];
  const inputs: Record<string, TensorSpec> = { inputs: tokens, ...(kind !== "logits" && { targets: tokens }) };
  for (const { name, shape } of layout.slots) inputs[PARAM + name] = { shape, dtype: "float32" };
  for (const { name, shape } of masks) inputs[MASK + name] = { shape, dtype: "float32" };

  return trace(inputs, (given) => {
    const pick = (prefix: string, of: readonly string[]) =>
      Object.fromEntries(of.map((name) => [name, given[prefix + name] as tf.Tensor]));
    const ids = (name: string) => given[name] as tf.Tensor1D;
    const params = pick(PARAM, names);
    switch (kind) {
      case "logits":
        return { logits: gptLogits(spec, params, ids("inputs")) };
      case "loss":
        return { loss: gptLoss(spec, params, { inputs: ids("inputs"), targets: ids("targets") }) };
      case "gradient": {
        const batch = {
          inputs: ids("inputs"),
          targets: ids("targets"),
          masks: pick(
            MASK,
            masks.map(({ name }) => name),
          ),
        };
        const { value, grads } = tf.valueAndGrads((...tensors: tf.Tensor[]) =>
          gptLoss(spec, Object.fromEntries(tensors.map((tensor, i) => [names[i], tensor])), batch),
        )(Object.values(params));
        return { loss: value, ...Object.fromEntries(grads.map((grad, i) => [GRADIENT + names[i], grad])) };
      }
      default:
        return kind satisfies never;
    }
  });
}
