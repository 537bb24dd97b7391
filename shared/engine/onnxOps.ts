/** @file Named ops as ONNX nodes: fused kernels where ONNX Runtime's CPU has them, the fewest passes over memory where it has not. */
import { CAUSAL_BIAS } from "../model/ops/attention.ts";
import { GELU_CUBIC, GELU_LINEAR } from "../model/ops/gelu.ts";
import { LAYER_NORM_EPSILON } from "../model/ops/layerNorm.ts";
import { type Lowering, product, type Rule } from "./onnxLowering.ts";

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

  /** A third input is a bias. Mean and 1/σ are kept for the gradient under the name of x. */
  ManyhandsLayerNorm: ({ inputs, outputs: [y = -1] }, lowering) => {
    const names = inputs.map((id) => lowering.name(id));
    const [mean, inverseDeviation] = [lowering.fresh(), lowering.fresh()];
    lowering.share(`mean ${inputs[0]}`, () => mean);
    lowering.share(`1/σ ${inputs[0]}`, () => inverseDeviation);
    lowering.emit("LayerNormalization", names, {
      attributes: { axis: -1, epsilon: { float: LAYER_NORM_EPSILON } },
      outputs: [lowering.target(y), mean, inverseDeviation],
    });
  },

  ManyhandsLayerNormGrad: ({ inputs: [dyId = -1, x = -1, gainId = -1], outputs: [dx = -1, dGain = -1] }, lowering) => {
    const width = lowering.shape(x)[1] ?? 0;
    const [dy, gain] = [lowering.name(dyId), lowering.name(gainId)];
    const mean = lowering.share(`mean ${x}`, missing);
    const inverseDeviation = lowering.share(`1/σ ${x}`, missing);
    const centred = lowering.emit("Sub", [lowering.name(x), mean]);
    const normalised = lowering.emit("Mul", [centred, inverseDeviation]);
    const weighted = lowering.emit("Mul", [dy, normalised]);
    lowering.emit("ReduceSum", [weighted, lowering.constant("int64", [1], [0])], {
      attributes: { keepdims: 0 },
      outputs: [lowering.target(dGain)],
    });
    // Row means of u = dy∘g and of u∘x̂, as products with g/d.
    const column = lowering.emit("Mul", [lowering.reshape(gain, [width, 1]), lowering.scalar(1 / width)]);
    const meanU = lowering.emit("MatMul", [dy, column]);
    const meanUX = lowering.emit("MatMul", [weighted, column]);
    const along = lowering.emit("Mul", [normalised, meanUX]);
    const u = lowering.emit("Mul", [dy, gain]);
    const rest = lowering.emit("Sub", [lowering.emit("Sub", [u, meanU]), along]);
    lowering.emit("Mul", [rest, inverseDeviation], { outputs: [lowering.target(dx)] });
  },

  ManyhandsGelu: ({ inputs: [x = -1], outputs: [y = -1] }, lowering) => {
    const gate = geluGate(x, lowering);
    lowering.emit("Mul", [lowering.name(x), gate], { outputs: [lowering.target(y)] });
    lowering.share(`gelu ${x}`, () => lowering.name(y));
  },

  /** dx = dy·s·(1 + (x − y)·(2u)′), because x·(1 − s) = x − y. */
  ManyhandsGeluGrad: ({ inputs: [dy = -1, x = -1], outputs: [dx = -1] }, lowering) => {
    const square = lowering.share(`square ${x}`, missing);
    const y = lowering.share(`gelu ${x}`, missing);
    const cubic = lowering.emit("Mul", [square, lowering.scalar(3 * GELU_CUBIC)]);
    const slope = lowering.emit("Add", [cubic, lowering.scalar(GELU_LINEAR)]);
    const rest = lowering.emit("Sub", [lowering.name(x), y]);
    const inner = lowering.emit("Add", [lowering.emit("Mul", [rest, slope]), lowering.scalar(1)]);
    const outer = lowering.emit("Mul", [lowering.name(dy), geluGate(x, lowering)]);
    lowering.emit("Mul", [outer, inner], { outputs: [lowering.target(dx)] });
  },

  ManyhandsAttention: ({ inputs: [qkv = -1, mask], outputs: [out = -1], attributes }, lowering) => {
    const { batch, context, heads } = attributes as { batch: number; context: number; heads: number };
    const width = lowering.shape(out)[1] ?? 0;
    const features = width / heads;
    const packed = lowering.reshape(lowering.name(qkv), [batch, context, 3, heads, features]);
    const split = lowering.emit("Transpose", [packed], { attributes: { perm: [2, 0, 3, 1, 4] } });
    const [q, k, v] = [lowering.fresh(), lowering.fresh(), lowering.fresh()];
    lowering.emit("Split", [split], { attributes: { axis: 0, num_outputs: 3 }, outputs: [q, k, v] });
    const causal = lowering.constant(
      "float32",
      [context, context],
      Array.from({ length: context * context }, (_, i) => (i % context > Math.floor(i / context) ? CAUSAL_BIAS : 0)),
    );
    const scores = product(lowering, [q, k], { transB: true, alpha: 1 / Math.sqrt(features) }); // [1, B, H, T, T]
    const p = lowering.emit("Softmax", [lowering.emit("Add", [scores, causal])], { attributes: { axis: -1 } });
    const dropped = mask === undefined ? p : lowering.emit("Mul", [p, lowering.name(mask)]);
    const mixed = product(lowering, [dropped, v], {}); // [1, B, H, T, e]
    const rows = lowering.emit("Transpose", [mixed], { attributes: { perm: [0, 1, 3, 2, 4] } });
    lowering.reshape(rows, [batch * context, width], { outputs: [lowering.target(out)] });
    for (const [name, value] of Object.entries({ q, k, v, p, dropped, out: lowering.name(out) })) {
      lowering.share(`${name} ${qkv}`, () => value);
    }
  },

  /** Σ_keys p∘dp of the softmax's gradient is dy·out of each row and head: T× less to sum. */
  ManyhandsAttentionGrad: ({ inputs: [dyId = -1, qkv = -1, mask], outputs: [dqkv = -1], attributes }, lowering) => {
    const { batch, context, heads } = attributes as { batch: number; context: number; heads: number };
    const width = (lowering.shape(qkv)[1] ?? 0) / 3;
    const features = width / heads;
    const alpha = 1 / Math.sqrt(features);
    const of = (name: string) => lowering.share(`${name} ${qkv}`, missing);
    const dy = lowering.name(dyId);
    const headsOf = (x: string) =>
      lowering.emit("Transpose", [lowering.reshape(x, [1, batch, context, heads, -1])], {
        attributes: { perm: [0, 1, 3, 2, 4] },
      });
    const dOut = headsOf(dy); // [1, B, H, T, e]
    const perHead = lowering.reshape(lowering.emit("Mul", [dy, of("out")]), [-1, features]);
    const sums = lowering.emit("ReduceSum", [perHead, lowering.constant("int64", [1], [1])]);
    const rowSums = headsOf(sums); // [1, B, H, T, 1]
    const dDropped = product(lowering, [dOut, of("v")], { transB: true });
    const dp = mask === undefined ? dDropped : lowering.emit("Mul", [dDropped, lowering.name(mask)]);
    const ds = lowering.emit("Mul", [lowering.emit("Sub", [dp, rowSums]), of("p")]);
    const dq = product(lowering, [ds, of("k")], { alpha });
    const dk = product(lowering, [ds, of("q")], { transA: true, alpha });
    const dv = product(lowering, [of("dropped"), dOut], { transA: true });
    const packed = lowering.emit("Concat", [dq, dk, dv], { attributes: { axis: 0 } }); // [3, B, H, T, e]
    const rows = lowering.emit("Transpose", [packed], { attributes: { perm: [1, 3, 0, 2, 4] } });
    lowering.reshape(rows, [batch * context, 3 * width], { outputs: [lowering.target(dqkv)] });
  },

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

/** s = σ(2u). */
function geluGate(x: number, lowering: Lowering): string {
  return lowering.share(`gate ${x}`, () => {
    const name = lowering.name(x);
    const square = lowering.share(`square ${x}`, () => lowering.emit("Mul", [name, name]));
    const cubic = lowering.emit("Mul", [square, lowering.scalar(GELU_CUBIC)]);
    const slope = lowering.emit("Add", [cubic, lowering.scalar(GELU_LINEAR)]);
    return lowering.emit("Sigmoid", [lowering.emit("Mul", [slope, name])]);
  });
}

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

function missing(): never {
  throw new Error("a gradient was lowered without its forward op");
}
