/** @file Choosing the next token from a model's logits. */

export type Sampling = {
  /** 0: always the largest; 1: as the model thinks. */
  readonly temperature: number;
  /** Only the k likeliest tokens. */
  readonly topK?: number;
  /** Of those, only the likeliest whose probabilities add up to p: the nucleus (Holtzman et al. 2020, arXiv:1904.09751). */
  readonly topP?: number;
};

/**
 * The probabilities that a token is drawn with: softmax(logits / temperature) over the topK largest, of these the smallest
 * number of likeliest ones whose sum is at least topP, 0 elsewhere, summing to 1. Equal logits: the smaller id counts as
 * larger. Shapes: logits [V] f32 → [V] f64. Mutates nothing.
 *
 * @throws RangeError when temperature is negative, topK < 1, topP not in (0, 1], or a logit is NaN or +∞.
 */
export function samplingProbabilities(
  logits: Float32Array,
  { temperature, topK = logits.length, topP = 1 }: Sampling,
): Float64Array {
  if (!(temperature >= 0)) throw new RangeError(`temperature ${temperature}, expected 0 or more`);
  if (!(topK >= 1)) throw new RangeError(`top-k ${topK}, expected 1 or more`);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`top-p ${topP}, expected more than 0 and at most 1`);
  const best = largestOf(logits);
  const weights = new Float64Array(logits.length);
  if (temperature === 0) {
    weights[best] = 1;
    return weights;
  }

  const { threshold, ties } = cutoff(logits, topK);
  const largest = logits[best] ?? 0;
  let total = 0;
  let tiesLeft = ties;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? 0;
    if (logit < threshold || (logit === threshold && tiesLeft-- <= 0)) continue;
    const weight = Math.exp((logit - largest) / temperature);
    weights[id] = weight;
    total += weight;
  }
  if (topP < 1) total = keepNucleus(weights, topP * total);
  for (let id = 0; id < weights.length; id++) weights[id] = (weights[id] ?? 0) / total;
  return weights;
}

/**
 * Draws from {@link samplingProbabilities} by inverting the cumulative distribution at `uniform`, token ids ascending.
 *
 * @param uniform in [0, 1)
 * @throws RangeError as there, and when uniform is outside [0, 1).
 */
export function sampleToken(
  logits: Float32Array,
  { uniform, ...sampling }: Sampling & { readonly uniform: number },
): number {
  if (!(uniform >= 0 && uniform < 1)) throw new RangeError(`uniform ${uniform} is not in [0, 1)`);
  const probabilities = samplingProbabilities(logits, sampling);
  let left = uniform;
  let last = 0;
  for (let id = 0; id < probabilities.length; id++) {
    const probability = probabilities[id] ?? 0;
    if (probability === 0) continue;
    if (left < probability) return id;
    left -= probability;
    last = id;
  }
  // Rounding may leave a crumb beyond the end.
  return last;
}

/** @throws RangeError on a logit that no softmax can take. */
function largestOf(logits: Float32Array): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? NaN;
    if (Number.isNaN(logit) || logit === Infinity) throw new RangeError(`logit ${logit} of token ${id}`);
    if (logit > (logits[best] ?? 0)) best = id;
  }
  return best;
}

/** Zeroes all but the largest weights that together reach `wanted`. Mutates weights; returns the sum of what stays. */
function keepNucleus(weights: Float64Array, wanted: number): number {
  const ids = Uint32Array.from(weights.keys()).sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  let sum = 0;
  for (const id of ids) {
    if (sum >= wanted) weights[id] = 0;
    else sum += weights[id] ?? 0;
  }
  return sum;
}

/** The k-th largest logit, and how many of those equal to it belong to the k largest. */
function cutoff(logits: Float32Array, k: number): { threshold: number; ties: number } {
  if (k >= logits.length) return { threshold: -Infinity, ties: logits.length };
  const sorted = logits.slice().sort();
  const threshold = sorted[sorted.length - k] ?? -Infinity;
  let larger = 0;
  for (const logit of logits) if (logit > threshold) larger++;
  return { threshold, ties: k - larger };
}
