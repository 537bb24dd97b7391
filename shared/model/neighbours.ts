/** @file Which tokens a model uses alike: its embedding table read as a map, distances as cosines. */

export type Neighbour = {
  readonly token: number;
  /** Cosine of the angle to what was asked for, −1 … 1. */
  readonly similarity: number;
};

/** Rows of the embedding. Shapes: values [V·d] row-major. */
export type Embedding = { readonly values: Float32Array; readonly width: number };

/** The `count` tokens whose vectors point most nearly where that of `token` does, itself left out. */
export function nearestTokens(embedding: Embedding, token: number, count: number): Neighbour[] {
  return nearest(embedding, direction(embedding, token), [token], count);
}

/**
 * "b is to a as … is to c": the tokens nearest to unit(b) − unit(a) + unit(c), the three left out. Source: Mikolov et al.
 * 2013, "Linguistic Regularities in Continuous Space Word Representations" (3CosAdd).
 */
export function analogy(
  embedding: Embedding,
  { a, b, c }: { a: number; b: number; c: number },
  count: number,
): Neighbour[] {
  // prettier-ignore
  const [from, to, start] = [direction(embedding, a), direction(embedding, b), direction(embedding, c)];
  return nearest(embedding, to.map((value, i) => value - (from[i] ?? 0) + (start[i] ?? 0)), [a, b, c], count); // prettier-ignore
}

/** Largest similarity first; equal ones by id. */
function nearest(embedding: Embedding, wanted: Float64Array, without: readonly number[], count: number): Neighbour[] {
  const { values, width } = embedding;
  const target = unit(wanted);
  const found: Neighbour[] = [];
  for (let token = 0; token < values.length / width; token++) {
    if (without.includes(token)) continue;
    const row = direction(embedding, token);
    found.push({ token, similarity: row.reduce((sum, value, i) => sum + value * (target[i] ?? 0), 0) });
  }
  return found.sort((x, y) => y.similarity - x.similarity || x.token - y.token).slice(0, count);
}

/** @throws RangeError when there is no such token. */
function direction({ values, width }: Embedding, token: number): Float64Array {
  const from = token * width;
  if (!(token >= 0 && from + width <= values.length)) throw new RangeError(`there is no token ${token}`);
  return unit(Float64Array.from(values.subarray(from, from + width)));
}

/** A vector of zeros has no direction, and stays. */
function unit(vector: Float64Array): Float64Array {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}
