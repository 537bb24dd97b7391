/** @file The three graphs an engine compiles for a batch size: a gradient step, the loss alone, the logits alone. */
import * as tf from "@tensorflow/tfjs-core";
import { gptLogits, gptLoss } from "../model/gpt.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { maskShapes } from "./batch.ts";
import type { Graph } from "./graph.ts";
import { GRADIENT, MASK, PARAM, stepInputs, type StepKind } from "./stepKind.ts";
import { trace } from "./trace.ts";

/** With the inputs and outputs of stepKind.ts. */
export function stepGraph(kind: StepKind, spec: ModelSpec, layout: ParamLayout, batchSize: number): Graph {
  const names = layout.slots.map(({ name }) => name);
  const masks = kind === "gradient" ? maskShapes(spec, batchSize) : [];
  return trace(stepInputs(kind, spec, layout, batchSize), (given) => {
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
