/** @file Tokens sorted by id on the host, so that the embedding's gradient adds each row's tokens in order, without atomics. */

/**
 * Writes for N tokens [count, starts (N + 1), ids (N), tokens (N)]: segment s has id ids[s], and its tokens, ascending, are
 * tokens[starts[s] … starts[s + 1]). They begin at out[at]. Counting sort: O(N + V). Mutates out.
 */
export function writeSegments(out: Int32Array, at: number, ids: Int32Array, vocabulary: number): void {
  const { length } = ids;
  const next = scratch(vocabulary);
  for (let n = 0; n < length; n++) next[ids[n]!]!++;
  let count = 0;
  let start = 0;
  for (let id = 0; id < vocabulary; id++) {
    const tokens = next[id]!;
    if (tokens === 0) continue;
    out[at + 1 + count] = start;
    out[at + length + 2 + count] = id;
    next[id] = start;
    start += tokens;
    count++;
  }
  out[at] = count;
  out[at + 1 + count] = start;
  for (let n = 0; n < length; n++) out[at + 2 * length + 2 + next[ids[n]!]!++] = n;
}

/** Kept between steps: nothing is allocated in the steady state. */
let counters = new Int32Array(0);

function scratch(vocabulary: number): Int32Array {
  if (counters.length === vocabulary) counters.fill(0);
  else counters = new Int32Array(vocabulary);
  return counters;
}
