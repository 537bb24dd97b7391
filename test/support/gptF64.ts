/**
 * @file A second implementation of the GPT's loss: plain loops in f64 over nested positions, sharing no code with shared/model, so
 * that the two can disagree. Slow; for models of a few hundred parameters.
 */
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";

type Row = Float64Array;

/**
 * Σ −ln p(target) in nats over targets ≥ 0. `theta` is flat in layout order; `mask(site, sample, index)` gives dropout factors;
 * `onAttention` is told every probability with which a query attends to a key, before dropout.
 */
export function gptLossF64(
  spec: ModelSpec,
  layout: ParamLayout,
  theta: Float64Array,
  inputs: ArrayLike<number>,
  targets: ArrayLike<number>,
  mask: (site: number, sample: number, index: number) => number = () => 1,
  onAttention: (at: { layer: number; head: number; query: number; key: number; p: number }) => void = () => {},
): number {
  const { layers, heads, width: d, context: T, vocabulary: V } = spec;
  const slots = new Map(layout.slots.map((slot) => [slot.name, slot]));
  const view = (name: string): Row => {
    const slot = slots.get(name);
    return slot ? theta.subarray(slot.offset, slot.offset + slot.size) : new Float64Array(4 * d); // a missing bias: zeros
  };
  const wte = view("wte.weight");
  const wpe = view("wpe.weight");
  const affine = (x: Row, name: string, outs: number): Row => {
    const weight = view(`${name}.weight`);
    const y = view(`${name}.bias`).slice(0, outs);
    for (let o = 0; o < outs; o++) {
      for (let i = 0; i < x.length; i++) y[o] = (y[o] as number) + (x[i] as number) * (weight[i * outs + o] as number);
    }
    return y;
  };
  const norm = (x: Row, name: string): Row => {
    const gain = view(`${name}.weight`);
    const bias = view(`${name}.bias`);
    const mean = x.reduce((a, b) => a + b, 0) / d;
    const deviation = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / d + 1e-5);
    return x.map((v, i) => ((v - mean) / deviation) * (gain[i] as number) + (bias[i] as number));
  };

  let loss = 0;
  const e = d / heads;
  for (let b = 0; b < inputs.length / T; b++) {
    const x: Row[] = Array.from({ length: T }, (_, t) =>
      Float64Array.from(
        { length: d },
        (_, i) =>
          ((wte[(inputs[b * T + t] as number) * d + i] as number) + (wpe[t * d + i] as number)) * mask(0, b, t * d + i),
      ),
    );
    for (let layer = 0; layer < layers; layer++) {
      const h = `h.${layer}`;
      const site = 1 + 3 * layer;
      const qkv = x.map((row) => affine(norm(row, `${h}.ln_1`), `${h}.attn.c_attn`, 3 * d));
      for (let t = T - 1; t >= 0; t--) {
        const mixed = new Float64Array(d);
        for (let head = 0; head < heads; head++) {
          const scores: number[] = [];
          for (let s = 0; s <= t; s++) {
            let dot = 0;
            for (let i = 0; i < e; i++) {
              dot += ((qkv[t] as Row)[head * e + i] as number) * ((qkv[s] as Row)[d + head * e + i] as number);
            }
            scores.push(dot / Math.sqrt(e));
          }
          const total = scores.reduce((sum, v) => sum + Math.exp(v), 0);
          for (const [s, score] of scores.entries()) {
            onAttention({ layer, head, query: t, key: s, p: Math.exp(score) / total });
            const p = (Math.exp(score) / total) * mask(site, b, (head * T + t) * T + s);
            for (let i = 0; i < e; i++) {
              mixed[head * e + i] =
                (mixed[head * e + i] as number) + p * ((qkv[s] as Row)[2 * d + head * e + i] as number);
            }
          }
        }
        const out = affine(mixed, `${h}.attn.c_proj`, d);
        x[t] = (x[t] as Row).map((v, i) => v + (out[i] as number) * mask(site + 1, b, t * d + i));
      }
      for (let t = 0; t < T; t++) {
        const hidden = affine(norm(x[t] as Row, `${h}.ln_2`), `${h}.mlp.c_fc`, 4 * d).map(gelu);
        const out = affine(hidden, `${h}.mlp.c_proj`, d);
        x[t] = (x[t] as Row).map((v, i) => v + (out[i] as number) * mask(site + 2, b, t * d + i));
      }
    }
    for (let t = 0; t < T; t++) {
      const target = targets[b * T + t] as number;
      if (target < 0) continue;
      const y = norm(x[t] as Row, "ln_f");
      const logits = Array.from({ length: V }, (_, v) =>
        y.reduce((sum, yi, i) => sum + yi * (wte[v * d + i] as number), 0),
      );
      loss += Math.log(logits.reduce((sum, v) => sum + Math.exp(v), 0)) - (logits[target] as number);
    }
  }
  return loss;
}

/** Central differences of {@link gptLossF64} at the given indices: f64, so good to about 1e-8 relative. */
export function finiteDifferences(
  loss: (theta: Float64Array) => number,
  theta: Float64Array,
  indices: readonly number[],
): number[] {
  const STEP = 1e-5;
  return indices.map((index) => {
    const at = (delta: number) => {
      const moved = theta.slice();
      moved[index] = (moved[index] as number) + delta;
      return loss(moved);
    };
    return (at(STEP) - at(-STEP)) / (2 * STEP);
  });
}

function gelu(v: number): number {
  return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
}
