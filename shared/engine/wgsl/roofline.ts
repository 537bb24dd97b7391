/** @file What a device could do at best: an estimate from published peaks, never a measurement. */
import type { Dispatch } from "./plan.ts";

export type Peaks = { readonly teraflops: number; readonly gigabytesPerSecond: number };

/** Microseconds to start a dispatch that waits for the one before it; drivers take 2 to 10. */
const START_US = 3;

/** Milliseconds: each dispatch is bound by its arithmetic or by its memory, whichever takes longer (Williams et al., 2009). */
export function rooflineMs(
  dispatches: readonly Pick<Dispatch, "flops" | "bytes">[],
  { teraflops, gigabytesPerSecond }: Peaks,
): number {
  return dispatches.reduce((ms, { flops, bytes }) => {
    return ms + Math.max(flops / (teraflops * 1e9), bytes / (gigabytesPerSecond * 1e6)) + START_US / 1000;
  }, 0);
}
