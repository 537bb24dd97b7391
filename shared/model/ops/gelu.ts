/**
 * @file GELU in GPT-2's tanh form: y = x·s, s = ½(1 + tanh u) = σ(2u), u = √(2/π)(x + 0.044715·x³).
 * Source: Hendrycks & Gimpel, 1606.08415, and openai/gpt-2.
 */
import * as tf from "@tensorflow/tfjs-core";
import { GELU_CUBIC, GELU_LINEAR } from "./constants.ts";
import { defineOp, only } from "./op.ts";

const runForward = defineOp<"x">({
  name: "ManyhandsGelu",
  inputs: ["x"],
  outputs: ({ x }) => [x],
  compute: ({ x }) => [tf.mul(x, gate(x))],
  gradient: (dy, { x }) => ({ x: only(runBackward({ dy, x }, {})) }),
});

/** dx = dy·s·(1 + x·(1 − s)·(2u)′). */
const runBackward = defineOp<"dy" | "x">({
  name: "ManyhandsGeluGrad",
  inputs: ["dy", "x"],
  outputs: ({ x }) => [x],
  compute: ({ dy, x }) => {
    const s = gate(x);
    const slope = tf.add(tf.mul(tf.square(x), 3 * GELU_CUBIC), GELU_LINEAR);
    const inner = tf.mul(tf.mul(x, tf.sub(1, s)), slope);
    return [tf.mul(tf.mul(dy, s), tf.add(inner, 1))];
  },
});

/** Elementwise, any shape. */
export function gelu(x: tf.Tensor2D): tf.Tensor2D {
  return only(runForward({ x }, {})) as tf.Tensor2D;
}

/** s. By tanh, not sigmoid: some GPUs' exp overflows to NaN in a sigmoid of −100. */
function gate(x: tf.Tensor): tf.Tensor {
  const u = tf.mul(tf.mul(x, tf.add(tf.mul(tf.square(x), GELU_CUBIC), GELU_LINEAR)), 0.5);
  return tf.mul(tf.add(tf.tanh(u), 1), 0.5);
}
