/**
 * @file GPT: a pre-LN decoder with learned positions and a tied head. Parameters in, loss sum out; read it top to bottom.
 * Shapes ride on the lines: B sequences of T tokens, N = B·T rows, d features, V token ids.
 */
import * as tf from "@tensorflow/tfjs-core";
import type { TensorShape } from "../numerics/layout.ts";
import { attention } from "./ops/attention.ts";
import { crossEntropy } from "./ops/crossEntropy.ts";
import { dropout } from "./ops/dropout.ts";
import { embedding } from "./ops/embedding.ts";
import { gelu } from "./ops/gelu.ts";
import { layerNorm } from "./ops/layerNorm.ts";
import { linear } from "./ops/linear.ts";
import type { ModelSpec } from "./spec.ts";

/** Tensors by name: the parameters of {@link gptTensors}, or the dropout masks of {@link gptDropoutSites}. */
export type Tensors = Readonly<Record<string, tf.Tensor>>;

/** Every parameter's name and shape, in GPT-2's names; weights are [in, out]. */
export function gptTensors({ layers, width, context, vocabulary, bias }: ModelSpec): TensorShape[] {
  const withBias = (name: string, shape: readonly number[]): TensorShape[] => [
    { name: `${name}.weight`, shape },
    ...(bias ? [{ name: `${name}.bias`, shape: shape.slice(-1) }] : []),
  ];
  const block = (h: string): TensorShape[] => [
    ...withBias(`${h}.ln_1`, [width]),
    ...withBias(`${h}.attn.c_attn`, [width, 3 * width]),
    ...withBias(`${h}.attn.c_proj`, [width, width]),
    ...withBias(`${h}.ln_2`, [width]),
    ...withBias(`${h}.mlp.c_fc`, [width, 4 * width]),
    ...withBias(`${h}.mlp.c_proj`, [4 * width, width]),
  ];
  return [
    { name: "wte.weight", shape: [vocabulary, width] },
    { name: "wpe.weight", shape: [context, width] },
    ...blockNames(layers).flatMap(block),
    ...withBias("ln_f", [width]),
  ];
}

/** Where values are dropped, and the shape of one sample's mask; the order numbers the sites for the mask's key. */
export function gptDropoutSites({ layers, heads, width, context }: ModelSpec): TensorShape[] {
  const rows = [context, width];
  return [
    { name: "embedding", shape: rows },
    ...blockNames(layers).flatMap((h) => [
      { name: `${h}.attn`, shape: [heads, context, context] },
      { name: `${h}.attn.residual`, shape: rows },
      { name: `${h}.mlp.residual`, shape: rows },
    ]),
  ];
}

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

function blockNames(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) => `h.${layer}`);
}
