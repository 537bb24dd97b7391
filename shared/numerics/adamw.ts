/** @file AdamW on flat arenas: the coordinator's optimizer, and later the inner optimizer of local rounds. */

import type { ParamLayout } from "./layout.ts";

/** What a run fixes. */
export type AdamWConfig = {
  /** β1, β2: decay of the first and second moment, in [0, 1). */
  readonly beta1: number;
  readonly beta2: number;
  /** Added to √v: keeps the step finite where the gradient has been zero. */
  readonly epsilon: number;
  /** Per unit of learning rate; applied to tensors of rank ≥ 2 only. */
  readonly weightDecay: number;
};

export type AdamWArrays = {
  /** θ [P] f32; padding is not touched. */
  readonly params: Float32Array;
  /** First moment [P] f32. */
  readonly m: Float32Array;
  /** Second moment [P] f32. */
  readonly v: Float32Array;
};

/** What a step decides. */
export type AdamWStep = AdamWConfig & {
  readonly learningRate: number;
  /** t: 1 for the first step ever taken with these moments. */
  readonly step: number;
  /** Factor on the gradient: the clip factor, times 1/tokens when the gradient is a sum. */
  readonly gradientScale: number;
};

/**
 * One AdamW step on elements [from, to), in the order of torch.optim.AdamW:
 *
 *     g' = g·gradientScale ; m ← β1·m + (1−β1)·g' ; v ← β2·v + (1−β2)·g'²      (m, v stored as f32 and read back)
 *     p ← p·(1 − lr·wd) − lr·(m/(1−β1^t)) / (√(v/(1−β2^t)) + ε)                 wd = 0 for tensors of rank < 2
 *
 * Shapes: params, m, v, gradient [P] f32; scalars and intermediates f64. Mutates params, m and v. Elementwise, so threads
 * may split [0, P) as they like. Source: docs/numerics.md §2; Loshchilov & Hutter 2019, algorithm 2.
 *
 * @throws RangeError when the lengths differ from the layout's, or `step` < 1.
 */
export function adamw(
  { params, m, v }: AdamWArrays,
  gradient: Float32Array,
  options: AdamWStep,
  layout: ParamLayout,
  from = 0,
  to: number = layout.length,
): void {
  for (const array of [params, m, v, gradient]) {
    if (array.length !== layout.length) {
      throw new RangeError(`an array of ${array.length} elements, the layout has ${layout.length}`);
    }
  }
  forEachRun(options, layout, from, to, (start, end, scalars) => {
    updateRun(params, m, v, gradient, start, end, scalars);
  });
}

/** What a step computes with within one tensor. */
export type AdamWScalars = {
  readonly gradientScale: number;
  readonly beta1: number;
  readonly beta2: number;
  /** 1 − lr·wd. */
  readonly keep: number;
  /** 1/(1 − β1^t), 1/(1 − β2^t). */
  readonly correction1: number;
  readonly correction2: number;
  readonly learningRate: number;
  readonly epsilon: number;
};

/**
 * Each run of elements within [from, to) that belongs to one tensor, and its scalars; padding belongs to none.
 *
 * @throws RangeError when `step` < 1.
 */
export function forEachRun(
  { step, weightDecay, ...common }: AdamWStep,
  { slots }: ParamLayout,
  from: number,
  to: number,
  run: (start: number, end: number, scalars: AdamWScalars) => void,
): void {
  if (!(step >= 1)) throw new RangeError(`AdamW step ${step}, the first is 1`);
  const correction1 = 1 / (1 - common.beta1 ** step);
  const correction2 = 1 / (1 - common.beta2 ** step);
  for (const { offset, size, decay } of slots) {
    const start = Math.max(from, offset);
    const end = Math.min(to, offset + size);
    if (start >= end) continue;
    const keep = 1 - common.learningRate * (decay ? weightDecay : 0);
    run(start, end, { ...common, keep, correction1, correction2 });
  }
}

function updateRun(
  params: Float32Array,
  m: Float32Array,
  v: Float32Array,
  gradient: Float32Array,
  from: number,
  to: number,
  { beta1, beta2, epsilon, learningRate, gradientScale, keep, correction1, correction2 }: AdamWScalars,
): void {
  const rest1 = 1 - beta1;
  const rest2 = 1 - beta2;
  const even = from + ((to - from) & ~1);
  // Two elements a turn: their square roots and divisions overlap, a third less time per element (test/bench/codec.ts).
  for (let i = from; i < even; i += 2) {
    const j = i + 1;
    const g0 = gradient[i]! * gradientScale;
    const g1 = gradient[j]! * gradientScale;
    const m0 = Math.fround(beta1 * m[i]! + rest1 * g0);
    const m1 = Math.fround(beta1 * m[j]! + rest1 * g1);
    const v0 = Math.fround(beta2 * v[i]! + rest2 * g0 * g0);
    const v1 = Math.fround(beta2 * v[j]! + rest2 * g1 * g1);
    m[i] = m0;
    m[j] = m1;
    v[i] = v0;
    v[j] = v1;
    params[i] = params[i]! * keep - (learningRate * (m0 * correction1)) / (Math.sqrt(v0 * correction2) + epsilon);
    params[j] = params[j]! * keep - (learningRate * (m1 * correction1)) / (Math.sqrt(v1 * correction2) + epsilon);
  }
  for (let i = even; i < to; i++) {
    const g = gradient[i]! * gradientScale;
    const first = Math.fround(beta1 * m[i]! + rest1 * g);
    const second = Math.fround(beta2 * v[i]! + rest2 * g * g);
    m[i] = first;
    v[i] = second;
    params[i] =
      params[i]! * keep - (learningRate * (first * correction1)) / (Math.sqrt(second * correction2) + epsilon);
  }
}
