/** @file Named ops as ONNX nodes: fused kernels where ONNX Runtime's CPU has them, the fewest passes over memory where it has not. */
import { LAYER_NORM_EPSILON } from "../model/ops/constants.ts";
import { lowerAttention, lowerAttentionGrad } from "./onnxAttention.ts";
import { lowerGelu, lowerGeluGrad, lowerLayerNormGrad } from "./onnxElementwise.ts";
import type { Lowering, Rule } from "./onnxLowering.ts";

export const namedRules: Readonly<Record<string, Rule>> = {
  ManyhandsDropout: ({ inputs, outputs: [y = -1] }, lowering) => {
    const names = inputs.map((id) => lowering.name(id));
    lowering.emit("Mul", names, { outputs: [lowering.target(y)] });
  },

  ManyhandsEmbedding: ({ inputs, outputs: [y = -1] }, lowering) => {
    const names = inputs.map((id) => lowering.name(id));
    lowering.emit("Gather", names, { outputs: [lowering.target(y)] });
  },

  /** A third input is a sum to add to. */
  ManyhandsEmbeddingGrad: ({ inputs: [dy = -1, ids = -1, addend], outputs: [table = -1] }, lowering) => {
    const rows = lowering.emit("Cast", [lowering.name(ids)], { attributes: { to: INT64 } });
    const indices = lowering.reshape(rows, [-1, 1]);
    const start =
      addend === undefined
        ? lowering.emit("ConstantOfShape", [lowering.constant("int64", [2], lowering.shape(table))])
        : lowering.name(addend);
    lowering.emit("ScatterND", [start, indices, lowering.name(dy)], {
      attributes: { reduction: "add" },
      outputs: [lowering.target(table)],
    });
  },

  /** A third input is a bias. Mean and 1/σ are kept for the gradient. */
  ManyhandsLayerNorm: ({ inputs, outputs: [y = -1] }, lowering) => {
    const names = inputs.map((id) => lowering.name(id));
    const statistics = lowering.share(`statistics ${inputs[0]}`, () => [lowering.fresh(), lowering.fresh()]);
    lowering.emit("LayerNormalization", names, {
      attributes: { axis: -1, epsilon: { float: LAYER_NORM_EPSILON } },
      outputs: [lowering.target(y), ...statistics],
    });
  },

  ManyhandsLayerNormGrad: lowerLayerNormGrad,

  ManyhandsGelu: lowerGelu,

  ManyhandsGeluGrad: lowerGeluGrad,

  ManyhandsAttention: lowerAttention,

  ManyhandsAttentionGrad: lowerAttentionGrad,

  ManyhandsCrossEntropy: ({ inputs: [logits = -1, targets = -1], outputs: [loss = -1] }, lowering) => {
    const { index, negativeCounted } = labels(targets, lowering);
    const chosen = lowering.emit("GatherElements", [logProbabilities(logits, lowering), index], {
      attributes: { axis: 1 },
    });
    lowering.emit("ReduceSum", [lowering.emit("Mul", [chosen, negativeCounted])], {
      attributes: { keepdims: 0 },
      outputs: [lowering.target(loss)],
    });
  },

  ManyhandsCrossEntropyGrad: ({ inputs: [dy = -1, logits = -1, targets = -1], outputs: [dLogits = -1] }, lowering) => {
    const { index, counted, negativeCounted } = labels(targets, lowering);
    const p = lowering.emit("Exp", [logProbabilities(logits, lowering)]);
    const masked = lowering.emit("Mul", [p, counted]);
    const scatter = { attributes: { axis: 1, reduction: "add" } };
    if (lowering.graph.constants.get(dy) === 1) {
      const outputs = [lowering.target(dLogits)];
      lowering.emit("ScatterElements", [masked, index, negativeCounted], { ...scatter, outputs });
    } else {
      const difference = lowering.emit("ScatterElements", [masked, index, negativeCounted], scatter);
      lowering.emit("Mul", [difference, lowering.name(dy)], { outputs: [lowering.target(dLogits)] });
    }
  },
};

/** TensorProto.DataType */
const FLOAT = 1;
const INT64 = 7;

function logProbabilities(logits: number, lowering: Lowering): string {
  return lowering.share(`log p ${logits}`, () =>
    lowering.emit("LogSoftmax", [lowering.name(logits)], { attributes: { axis: -1 } }),
  );
}

/** Columns [N, 1]: the target's index (0 for an ignored one), 1 or 0 for counted or not, and the negative of that. */
function labels(targets: number, lowering: Lowering): { index: string; counted: string; negativeCounted: string } {
  const column = lowering.share(`column ${targets}`, () => lowering.reshape(lowering.name(targets), [-1, 1]));
  const zero = lowering.constant("int32", [], [0]);
  const cast = (x: string, to: number) => lowering.emit("Cast", [x], { attributes: { to } });
  const counted = lowering.share(`counted ${targets}`, () =>
    cast(lowering.emit("GreaterOrEqual", [column, zero]), FLOAT),
  );
  return {
    index: lowering.share(`index ${targets}`, () => cast(lowering.emit("Max", [column, zero]), INT64)),
    counted,
    negativeCounted: lowering.share(`−counted ${targets}`, () => lowering.emit("Neg", [counted])),
  };
}
