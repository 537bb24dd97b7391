/** @file What a GPT is made of, without the code that computes it: its parameters' names and shapes, and where it drops values. */
import type { TensorShape } from "../numerics/layout.ts";
import type { ModelSpec } from "./spec.ts";

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

export function blockNames(layers: number): string[] {
  return Array.from({ length: layers }, (_, layer) => `h.${layer}`);
}
