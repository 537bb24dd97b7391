/** @file Which tokens make up a sample: training positions to windows of a split, in both sampling orders, and evaluation. */

import { createPermutation, type Permutation } from "../numerics/permutation.ts";
import { randomUint32, streamKey } from "../numerics/rng.ts";

/**
 * `shuffled`: every window of an epoch once, in a seeded order. `random`: windows at offsets drawn independently, any
 * offset, as nanoGPT's batches.
 */
export type Sampling = "shuffled" | "random";

export type SampleOrder = {
  /** S: samples until `shuffled` begins a new epoch; for `random` the same number, as the unit in which to count epochs. */
  readonly samplesPerEpoch: number;
  /** First token of the sample at a position 0, 1, 2, … @throws RangeError when it is not a non-negative integer. */
  offsetOf(position: number): number;
};

/** Names the stream of random offsets, so that it shares no numbers with another use of the run's seed. */
const OFFSET_STREAM = 0x0ff5e7;

/**
 * A sample is the window of T+1 tokens at its offset: T inputs and, one further, T targets. Windows of an epoch lie at
 * s·T, s < S = ⌊(n−1)/T⌋, so every token but the first is a target once (and the last (n−1) mod T never).
 * Position g: epoch = g div S, s = π_{seed,epoch}(g mod S). Source: docs/numerics.md §5.
 *
 * @throws RangeError when the split is shorter than one window.
 */
export function sampleOrder({
  tokens,
  context,
  seed,
  sampling,
}: {
  readonly tokens: number;
  readonly context: number;
  readonly seed: number;
  readonly sampling: Sampling;
}): SampleOrder {
  const samplesPerEpoch = windowsIn(tokens, context);
  if (samplesPerEpoch < 1) throw new RangeError(`${tokens} tokens hold no window of ${context + 1}`);
  if (sampling === "random") {
    return {
      samplesPerEpoch,
      offsetOf(position) {
        checkPosition(position);
        const key = streamKey(seed, OFFSET_STREAM, position);
        // 53 random bits, so that the last tokens of a split of more than 2^32 are drawn as often as the first.
        const uniform = (randomUint32(key, 0) * 2 ** 21 + (randomUint32(key, 1) >>> 11)) / 2 ** 53;
        return Math.floor(uniform * (tokens - context));
      },
    };
  }
  let order: { readonly epoch: number; readonly permutation: Permutation } | undefined;
  return {
    samplesPerEpoch,
    offsetOf(position) {
      checkPosition(position);
      const epoch = Math.floor(position / samplesPerEpoch);
      if (order?.epoch !== epoch)
        order = { epoch, permutation: createPermutation({ size: samplesPerEpoch, seed, epoch }) };
      return order.permutation.forward(position % samplesPerEpoch) * context;
    },
  };
}

/** S = ⌊(n−1)/T⌋: the windows of T+1 tokens that overlap in one token only. */
export function windowsIn(tokens: number, context: number): number {
  return Math.max(0, Math.floor((tokens - 1) / context));
}

/** How many windows an evaluation looks at: what was asked for, at most all there are. */
export function evaluationWindows(tokens: number, context: number, samples: number | "all"): number {
  const all = windowsIn(tokens, context);
  return samples === "all" ? all : Math.min(samples, all);
}

/**
 * First token of evaluation window i of `samples` spread evenly over the split: window ⌊i·S/samples⌋. With samples = S
 * these are all windows in order.
 *
 * @throws RangeError unless 0 ≤ index < samples ≤ S.
 */
export function evaluationOffset(
  { tokens, context, samples }: { readonly tokens: number; readonly context: number; readonly samples: number },
  index: number,
): number {
  const all = windowsIn(tokens, context);
  if (!Number.isInteger(index) || index < 0 || index >= samples || samples > all)
    throw new RangeError(`evaluation window ${index} of ${samples}, the split has ${all}`);
  return Math.floor((index * all) / samples) * context;
}

function checkPosition(position: number): void {
  if (!Number.isSafeInteger(position) || position < 0) throw new RangeError(`sample position ${position}`);
}
