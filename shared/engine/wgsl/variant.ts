/** @file What a compiled step may use beyond plain WebGPU. Which of it a device gets, selfTest.ts finds out. */

export type Variant = {
  /** Sums over a workgroup go by subgroups where they can (WGSL's `subgroups`). */
  readonly subgroups: boolean;
};

/** What every device can do. */
export const PLAIN: Variant = { subgroups: false };
