/** @file Cross-entropy over integer labels: Σ over rows whose target is ≥ 0 of logsumexp(logits) − logits[target]; a sum, never a mean. */
import * as tf from "@tensorflow/tfjs-core";
import { defineOp, only } from "./op.ts";

const runForward = defineOp<"logits" | "targets">({
  name: "ManyhandsCrossEntropy",
  inputs: ["logits", "targets"],
  outputs: () => [{ shape: [], dtype: "float32" }],
  compute: ({ logits, targets }) => {
    const { counted, oneHot } = labels(logits, targets);
    const normaliser = tf.mul(tf.logSumExp(logits, 1), counted); // [N]
    const chosen = tf.sum(tf.mul(logits, oneHot), 1); // [N]
    return [tf.sum(tf.sub(normaliser, chosen))];
  },
  gradient: (dy, { logits, targets }) => ({ logits: only(runBackward({ dy, logits, targets }, {})) }),
});

/** dlogits = dy·(softmax(logits) − onehot(target)) in counted rows, 0 elsewhere. */
const runBackward = defineOp<"dy" | "logits" | "targets">({
  name: "ManyhandsCrossEntropyGrad",
  inputs: ["dy", "logits", "targets"],
  outputs: ({ logits }) => [logits],
  compute: ({ dy, logits, targets }) => {
    const { counted, oneHot } = labels(logits, targets);
    const p = tf.mul(tf.softmax(logits as tf.Tensor2D), tf.expandDims(counted, 1));
    return [tf.mul(tf.sub(p, oneHot), dy)];
  },
});

/** Shapes: logits [N, V], targets [N] int32 (−1: ignored) → scalar. */
export function crossEntropy(logits: tf.Tensor2D, targets: tf.Tensor1D): tf.Scalar {
  return only(runForward({ logits, targets }, {})) as tf.Scalar;
}

function labels(logits: tf.Tensor, targets: tf.Tensor): { counted: tf.Tensor; oneHot: tf.Tensor } {
  const classes = tf.expandDims(tf.range(0, logits.shape[1] ?? 0, 1, "int32"), 0); // [1, V]
  return {
    counted: tf.cast(tf.greaterEqual(targets, tf.scalar(0, "int32")), "float32"), // [N]
    oneHot: tf.cast(tf.equal(tf.expandDims(targets, 1), classes), "float32"), // [N, V]; a row of −1 matches nothing
  };
}
