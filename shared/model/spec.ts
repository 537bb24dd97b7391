/** @file What a model is, as data: the part of a run's spec that decides the parameters and their shapes. */

export type ModelSpec = {
  readonly kind: "gpt";
  readonly layers: number;
  readonly heads: number;
  /** d: features per token; a multiple of `heads`. */
  readonly width: number;
  /** T: tokens a position can look back on, itself included. */
  readonly context: number;
  /** V: token ids are 0 … V−1. */
  readonly vocabulary: number;
  /** Biases in the linear layers and layer norms. */
  readonly bias: boolean;
  /** Probability of dropping a value, 0 ≤ dropout < 1. */
  readonly dropout: number;
};

export type ModelSize = Pick<ModelSpec, "layers" | "heads" | "width" | "context" | "bias">;

export type Preset = "tiny" | "small" | "gpt2" | "gpt2-medium" | "gpt2-large" | "gpt2-xl";

/** Named sizes. `tiny` is nanoGPT's CPU configuration; the gpt2 family has GPT-2's published sizes. */
export const presets: Readonly<Record<Preset, ModelSize>> = {
  tiny: { layers: 4, heads: 4, width: 128, context: 64, bias: false },
  small: { layers: 6, heads: 6, width: 384, context: 256, bias: false },
  gpt2: { layers: 12, heads: 12, width: 768, context: 1024, bias: true },
  "gpt2-medium": { layers: 24, heads: 16, width: 1024, context: 1024, bias: true },
  "gpt2-large": { layers: 36, heads: 20, width: 1280, context: 1024, bias: true },
  "gpt2-xl": { layers: 48, heads: 25, width: 1600, context: 1024, bias: true },
};
