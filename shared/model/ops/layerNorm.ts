/** @file Layer norm over the last axis, without bias (a bias is an addition): y = x̂·g, x̂ = (x − mean)/√(var + ε). */
import * as tf from "@tensorflow/tfjs-core";
import { LAYER_NORM_EPSILON } from "./constants.ts";
import { defineOp, only } from "./op.ts";

const runForward = defineOp<"x" | "gain">({
  name: "ManyhandsLayerNorm",
  inputs: ["x", "gain"],
  outputs: ({ x }) => [x],
  compute: ({ x, gain }) => [tf.mul(normalise(x).normalised, gain)],
  gradient: (dy, { x, gain }) => {
    const [dx, dGain] = runBackward({ dy, x, gain }, {});
    return { ...(dx && { x: dx }), ...(dGain && { gain: dGain }) };
  },
});

/** dx = (u − mean(u) − x̂·mean(u∘x̂))/σ with u = dy∘g; dg = Σ_rows dy∘x̂. */
const runBackward = defineOp<"dy" | "x" | "gain">({
  name: "ManyhandsLayerNormGrad",
  inputs: ["dy", "x", "gain"],
  outputs: ({ x, gain }) => [x, gain],
  compute: ({ dy, x, gain }) => {
    const { normalised, inverseDeviation } = normalise(x);
    const u = tf.mul(dy, gain);
    const along = tf.mul(normalised, tf.mean(tf.mul(u, normalised), -1, true));
    const dx = tf.mul(tf.sub(tf.sub(u, tf.mean(u, -1, true)), along), inverseDeviation);
    return [dx, tf.sum(tf.mul(dy, normalised), 0)];
  },
});

/** Shapes: x [N, d], gain [d] → [N, d]. */
export function layerNorm(x: tf.Tensor2D, gain: tf.Tensor): tf.Tensor2D {
  return only(runForward({ x, gain }, {})) as tf.Tensor2D;
}

function normalise(x: tf.Tensor): { normalised: tf.Tensor; inverseDeviation: tf.Tensor } {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centred), -1, true);
  const inverseDeviation = tf.rsqrt(tf.add(variance, LAYER_NORM_EPSILON));
  return { normalised: tf.mul(centred, inverseDeviation), inverseDeviation };
}
