/**
 * @file Fixed chunks of an arena: the unit of parallel work and of every ordered reduction (norms, hashes). A reduction
 * defined chunk by chunk, combined in chunk order, gives the same bits however many threads shared the work.
 */

/**
 * Elements. Small enough that 0.8 M parameters split evenly over a few threads, large enough that the loop, not the
 * call, is what costs; a multiple of every codec block.
 */
export const CHUNK_ELEMENTS = 65_536;

/** Chunks that cover `length` elements; the last may be short. */
export function chunkCount(length: number): number {
  return Math.ceil(length / CHUNK_ELEMENTS);
}

/** First element of chunk `index`, and of the one after it, within `length` elements. */
export function chunkBounds(index: number, length: number): { from: number; to: number } {
  return { from: index * CHUNK_ELEMENTS, to: Math.min((index + 1) * CHUNK_ELEMENTS, length) };
}

/**
 * Contiguous runs of chunks [first, last) for `threads` threads, sizes differing by at most one. No more runs than
 * chunks: a thread without work is not started.
 */
export function chunkRuns(length: number, threads: number): { first: number; last: number }[] {
  const chunks = chunkCount(length);
  const runs = Math.max(1, Math.min(threads, chunks));
  return Array.from({ length: runs }, (_, run) => ({
    first: Math.floor((run * chunks) / runs),
    last: Math.floor(((run + 1) * chunks) / runs),
  }));
}
