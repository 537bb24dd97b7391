/**
 * @file GPT: a pre-LN decoder with learned positions and a tied head. Parameters in, loss sum out; read it top to bottom.
 * Shapes ride on the lines: B sequences of T tokens, N = B·T rows, d features, V token ids.
 */
import * as tf from "@tensorflow/tfjs-core";
import { blockNames } from "./gptTensors.ts";
import { attention } from "./ops/attention.ts";
import { crossEntropy } from "./ops/crossEntropy.ts";
import { dropout } from "./ops/dropout.ts";
import { embedding } from "./ops/embedding.ts";
import { gelu } from "./ops/gelu.ts";
import { layerNorm } from "./ops/layerNorm.ts";
import { linear } from "./ops/linear.ts";
import type { ModelSpec } from "./spec.ts";

/** Tensors by name: the parameters of gptTensors, or the dropout masks of gptDropoutSites (gptTensors.ts). */
export type Tensors = Readonly<Record<string, tf.Tensor>>;

/**
 * Logits of the next token at every position. Shapes: inputs [N] int32, masks [B·rows, d] or [B, H, T, T] → [N, V].
 *
 * @param observe is shown each layer's packed projections [N, 3d] on the way, first layer first: what attention is made of.
 */
export function gptLogits(
  { layers, heads, width, context }: ModelSpec,
  params: Tensors,
  inputs: tf.Tensor1D,
  masks?: Tensors,
  observe?: (qkv: tf.Tensor2D) => void,
): tf.Tensor2D {
  const batch = inputs.size / context;
  const get = (name: string): tf.Tensor => {
    const tensor = params[name];
    if (!tensor) throw new Error(`the model reads parameter "${name}", which it was not given`);
    return tensor;
  };
  const norm = (x: tf.Tensor2D, name: string): tf.Tensor2D => {
    const y = layerNorm(x, get(`${name}.weight`));
    const bias = params[`${name}.bias`];
    return bias ? tf.add(y, bias) : y;
  };
  const project = (x: tf.Tensor2D, name: string): tf.Tensor2D =>
    linear(x, get(`${name}.weight`), params[`${name}.bias`]);
  const drop = (x: tf.Tensor2D, site: string): tf.Tensor2D => {
    const mask = masks?.[site];
    return mask ? dropout(x, mask) : x;
  };

  const table = get("wte.weight") as tf.Tensor2D;
  const tokens = tf.reshape(embedding(table, inputs), [batch, context, width]); // [B, T, d]
  let x = tf.reshape<tf.Rank.R2>(tf.add(tokens, get("wpe.weight")), [batch * context, width]); // [N, d]
  x = drop(x, "embedding");
  for (const h of blockNames(layers)) {
    const qkv = project(norm(x, `${h}.ln_1`), `${h}.attn.c_attn`); // [N, 3d]
    observe?.(qkv);
    const mixed = attention(qkv, { batch, context, heads }, masks?.[`${h}.attn`]); // [N, d]
    x = tf.add(x, drop(project(mixed, `${h}.attn.c_proj`), `${h}.attn.residual`));
    const hidden = gelu(project(norm(x, `${h}.ln_2`), `${h}.mlp.c_fc`)); // [N, 4d]
    x = tf.add(x, drop(project(hidden, `${h}.mlp.c_proj`), `${h}.mlp.residual`));
  }
  return tf.matMul(norm(x, "ln_f"), table, false, true); // [N, V]
}

/** Σ over targets ≥ 0 of −ln p(target). Shapes: inputs and targets [N] int32 → scalar. */
export function gptLoss(
  spec: ModelSpec,
  params: Tensors,
  { inputs, targets, masks }: { inputs: tf.Tensor1D; targets: tf.Tensor1D; masks?: Tensors },
): tf.Scalar {
  return crossEntropy(gptLogits(spec, params, inputs, masks), targets);
}
