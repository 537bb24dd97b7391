/**
 * @file Dropout with a mask from the host: y = x∘mask, mask 0 where dropped and 1/(1 − rate) elsewhere. The mask is an
 * input, not drawn by the device, so that a lease computed again by another engine drops the same values.
 */
import * as tf from "@tensorflow/tfjs-core";
import { defineOp, only, type RunOp } from "./op.ts";

const run: RunOp<"x" | "mask"> = defineOp<"x" | "mask">({
  name: "ManyhandsDropout",
  inputs: ["x", "mask"],
  outputs: ({ x }) => [x],
  compute: ({ x, mask }) => [tf.mul(x, mask)],
  gradient: (dy, { mask }) => ({ x: only(run({ x: dy, mask }, {})) }),
});

/** Shapes: x and mask alike. */
export function dropout(x: tf.Tensor2D, mask: tf.Tensor): tf.Tensor2D {
  return only(run({ x, mask }, {})) as tf.Tensor2D;
}
