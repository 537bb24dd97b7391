/** @file What a compiled step may use beyond plain WebGPU. Which of it a device gets, selfTest.ts finds out. */

export type Variant = {
  /** Sums over a workgroup go by subgroups where they can (WGSL's `subgroups`). */
  readonly subgroups: boolean;
  /** Threads work alone where they can, without workgroup memory and barriers: for adapters that are a processor. */
  readonly alone: boolean;
};

/** What every device can do. */
export const PLAIN: Variant = { subgroups: false, alone: false };
