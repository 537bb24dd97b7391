/** @file What one attention head does with a text, in a few numbers. Pure. */
import type { AttentionMaps } from "./messages.ts";

/** Means over all queries but the first, which can only look at itself. */
export type HeadSummary = {
  /** Attention to the token itself, to the one before it, and to the first of all. */
  readonly self: number;
  readonly previous: number;
  readonly first: number;
  /** Tokens back, on average. */
  readonly distance: number;
  /** exp(entropy): among how many tokens it is spread. */
  readonly spread: number;
};

/** One head's [length, length] of all maps, a view. @throws RangeError when there is no such head. */
export function headOf({ labels, layers, heads, values }: AttentionMaps, layer: number, head: number): Float32Array {
  if (!(layer >= 0 && layer < layers && head >= 0 && head < heads)) {
    throw new RangeError(`there is no head ${head} in layer ${layer}`);
  }
  const size = labels.length ** 2;
  const from = (layer * heads + head) * size;
  return values.subarray(from, from + size);
}

/** Shapes: attention [length, length]; rows are queries. */
export function summarise(attention: Float32Array): HeadSummary {
  const length = Math.round(Math.sqrt(attention.length));
  const sums = { self: 0, previous: 0, first: 0, distance: 0, spread: 0 };
  for (let query = 1; query < length; query++) {
    let entropy = 0;
    for (let key = 0; key <= query; key++) {
      const p = attention[query * length + key] ?? 0;
      sums.distance += p * (query - key);
      if (p > 0) entropy -= p * Math.log(p);
    }
    sums.self += attention[query * length + query] ?? 0;
    sums.previous += attention[query * length + query - 1] ?? 0;
    sums.first += attention[query * length] ?? 0;
    sums.spread += Math.exp(entropy);
  }
  const queries = Math.max(1, length - 1);
  return {
    self: sums.self / queries,
    previous: sums.previous / queries,
    first: sums.first / queries,
    distance: sums.distance / queries,
    spread: sums.spread / queries,
  };
}

/** The keys that a query attends to most, most first. */
export function strongest(attention: Float32Array, query: number, count: number): { key: number; p: number }[] {
  const length = Math.round(Math.sqrt(attention.length));
  return Array.from(attention.subarray(query * length, query * length + query + 1), (p, key) => ({ key, p }))
    .sort((a, b) => b.p - a.p || a.key - b.key)
    .slice(0, count);
}
