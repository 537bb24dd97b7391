/** @file Windows of tokens as an engine's batch. */

import type { Batch } from "../engine/engine.ts";
import type { TokenSource } from "./tokenSource.ts";

/**
 * Row r holds the window at offsets[r]: inputs are its tokens 0 … T−1, targets its tokens 1 … T; shapes [B, T]. Rows
 * beyond the offsets, up to B = `rows`, are padding: inputs 0 and targets −1, which count nothing.
 *
 * @throws RangeError when there are more offsets than rows, or a window reaches outside the split.
 */
export async function loadBatch({
  source,
  offsets,
  context,
  rows = offsets.length,
}: {
  readonly source: TokenSource;
  readonly offsets: readonly number[];
  /** T */
  readonly context: number;
  readonly rows?: number;
}): Promise<Batch> {
  if (offsets.length > rows) throw new RangeError(`${offsets.length} windows in a batch of ${rows} rows`);
  const inputs = new Int32Array(rows * context);
  const targets = new Int32Array(rows * context).fill(-1);
  const windows = await Promise.all(offsets.map((offset) => source.read(offset, context + 1)));
  windows.forEach((window, row) => {
    inputs.set(window.subarray(0, context), row * context);
    targets.set(window.subarray(1), row * context);
  });
  return { batchSize: rows, inputs, targets };
}
