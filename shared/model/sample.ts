/** @file Choosing the next token from a model's logits. */

/**
 * Draws from softmax(logits / temperature) restricted to the topK largest, by inverting the cumulative distribution at
 * `uniform`, token ids ascending. Temperature 0 takes the largest. Equal logits: the smaller id counts as larger.
 * Shapes: logits [V] f32; sums in f64. Mutates nothing.
 *
 * @param uniform in [0, 1)
 * @throws RangeError when temperature is negative, topK < 1, uniform outside [0, 1), or a logit is NaN or +∞.
 */
export function sampleToken(
  logits: Float32Array,
  {
    temperature,
    topK = logits.length,
    uniform,
  }: { readonly temperature: number; readonly topK?: number; readonly uniform: number },
): number {
  if (!(temperature >= 0)) throw new RangeError(`temperature ${temperature}, expected 0 or more`);
  if (!(topK >= 1)) throw new RangeError(`top-k ${topK}, expected 1 or more`);
  if (!(uniform >= 0 && uniform < 1)) throw new RangeError(`uniform ${uniform} is not in [0, 1)`);
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? NaN;
    if (Number.isNaN(logit) || logit === Infinity) throw new RangeError(`logit ${logit} of token ${id}`);
    if (logit > (logits[best] ?? 0)) best = id;
  }
  if (temperature === 0) return best;

  const { threshold, ties } = cutoff(logits, topK);
  const largest = logits[best] ?? 0;
  /** exp((logit − max)/temperature), 0 outside the top k. */
  const weights = new Float64Array(logits.length);
  let total = 0;
  let tiesLeft = ties;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? 0;
    if (logit < threshold || (logit === threshold && tiesLeft-- <= 0)) continue;
    const weight = Math.exp((logit - largest) / temperature);
    weights[id] = weight;
    total += weight;
  }
  let left = uniform * total;
  let last = best;
  for (let id = 0; id < weights.length; id++) {
    const weight = weights[id] ?? 0;
    if (weight === 0) continue;
    if (left < weight) return id;
    left -= weight;
    last = id;
  }
  // Rounding may leave a crumb beyond the end.
  return last;
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
