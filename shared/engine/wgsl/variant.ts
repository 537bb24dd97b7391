/** @file What a compiled step may use beyond plain WebGPU. Which of it a device gets, selfTest.ts finds out. */

export type Variant = {
  /** Sums over a workgroup go by subgroups where they can (WGSL's `subgroups`). */
  readonly subgroups: boolean;
  /** Threads work alone where they can, without workgroup memory and barriers: for adapters that are a processor. */
  readonly alone: boolean;
  /** How activations lie in memory between the kernels of a gradient (WGSL's `f16`); computed with they are always f32. */
  readonly storage: Storage;
};

export type Storage = "f32" | "f16";

/** What every device can do. */
export const PLAIN: Variant = { subgroups: false, alone: false, storage: "f32" };
