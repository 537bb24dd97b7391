/**
 * @file Causal multi-head self-attention from packed projections: out = dropout(softmax(q·kᵀ/√e + causal))·v for each
 * head. Rows of qkv are tokens, batch-major; its columns are q, k, v, each head by head, as in GPT-2's c_attn.
 */
import * as tf from "@tensorflow/tfjs-core";
import { defineOp, only } from "./op.ts";

export type AttentionShape = {
  /** B: sequences. */
  readonly batch: number;
  /** T: tokens in each. */
  readonly context: number;
  /** H; features per head e = d/H. */
  readonly heads: number;
};

const runForward = defineOp<"qkv", "mask", AttentionShape>({
  name: "ManyhandsAttention",
  inputs: ["qkv", "mask"],
  outputs: ({ qkv }) => [{ shape: [qkv.shape[0] ?? 0, (qkv.shape[1] ?? 0) / 3], dtype: "float32" }],
  compute: ({ qkv, mask }, shape) => {
    const { q, k, v } = splitHeads(qkv, shape);
    const p = probabilities(q, k);
    return [joinHeads(tf.matMul(mask ? tf.mul(p, mask) : p, v))];
  },
  gradient: (dy, { qkv, mask }, shape) => ({ qkv: only(runBackward({ dy, qkv, ...(mask && { mask }) }, shape)) }),
});

/** With p the probabilities and m the mask: dv = (p∘m)ᵀ·dy, dp = (dy·vᵀ)∘m, ds = p∘(dp − Σ_keys p∘dp), dq = ds·k/√e, dk = dsᵀ·q/√e. */
const runBackward = defineOp<"dy" | "qkv", "mask", AttentionShape>({
  name: "ManyhandsAttentionGrad",
  inputs: ["dy", "qkv", "mask"],
  outputs: ({ qkv }) => [qkv],
  compute: ({ dy, qkv, mask }, shape) => {
    const { q, k, v } = splitHeads(qkv, shape);
    const p = probabilities(q, k);
    const dOut = heads(dy, shape);
    const dropped = mask ? tf.mul(p, mask) : p;
    const dv = tf.matMul(dropped, dOut, true, false);
    const dDropped = tf.matMul(dOut, v, false, true); // [B, H, T, T]
    const dp = mask ? tf.mul(dDropped, mask) : dDropped;
    const ds = tf.mul(tf.mul(p, tf.sub(dp, tf.sum(tf.mul(p, dp), -1, true))), scaleOf(q));
    const dq = tf.matMul(ds, k);
    const dk = tf.matMul(ds, q, true, false);
    return [tf.concat([joinHeads(dq), joinHeads(dk), joinHeads(dv)], 1)];
  },
});

/** Shapes: qkv [B·T, 3d], mask [B, H, T, T] (0 where dropped, 1/(1 − rate) elsewhere) → [B·T, d]. */
export function attention(qkv: tf.Tensor2D, shape: AttentionShape, mask?: tf.Tensor): tf.Tensor2D {
  return only(runForward({ qkv, ...(mask && { mask }) }, shape)) as tf.Tensor2D;
}

/** What each token attends to, head by head, without dropout. Shapes: qkv [B·T, 3d] → [B, H, T queries, T keys]. */
export function attentionProbabilities(qkv: tf.Tensor2D, shape: AttentionShape): tf.Tensor {
  const { q, k } = splitHeads(qkv, shape);
  return probabilities(q, k);
}

/** Added to the scores of keys after the query: far below any score, so that their probability is exactly 0 in f32. */
export const CAUSAL_BIAS = -1e9;

function probabilities(q: tf.Tensor, k: tf.Tensor): tf.Tensor {
  const length = q.shape[2] ?? 0;
  const position = tf.range(0, length, 1, "int32");
  const later = tf.greater(tf.expandDims(position, 0), tf.expandDims(position, 1)); // [T queries, T keys]
  const causal = tf.mul(tf.cast(later, "float32"), CAUSAL_BIAS);
  // The key is transposed by itself: several backends have a fast path for a plain product only.
  const scores = tf.matMul(q, tf.transpose(k, [0, 1, 3, 2])); // [B, H, T, T]
  return tf.softmax(tf.add(tf.mul(scores, scaleOf(q)), causal), -1);
}

function scaleOf(q: tf.Tensor): number {
  return 1 / Math.sqrt(q.shape[3] ?? 1);
}

function splitHeads(qkv: tf.Tensor, shape: AttentionShape): { q: tf.Tensor; k: tf.Tensor; v: tf.Tensor } {
  const [q, k, v] = tf.split(qkv, 3, 1); // 3 × [B·T, d]
  if (!q || !k || !v) throw new Error("qkv did not split into three");
  return { q: heads(q, shape), k: heads(k, shape), v: heads(v, shape) };
}

/** [B·T, d] → [B, H, T, e] */
function heads(x: tf.Tensor, { batch, context, heads }: AttentionShape): tf.Tensor {
  return tf.transpose(tf.reshape(x, [batch, context, heads, -1]), [0, 2, 1, 3]);
}

/** [B, H, T, e] → [B·T, d] */
function joinHeads(x: tf.Tensor): tf.Tensor {
  const [batch = 0, count = 0, context = 0, features = 0] = x.shape;
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch * context, count * features]);
}
