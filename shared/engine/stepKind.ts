/** @file The names of what an engine compiles: kinds of steps, and the inputs and outputs of their graphs. */

export type StepKind = "gradient" | "loss" | "logits";

/** Prefixes of the graph's input and output names: a parameter, its gradient, a dropout mask. */
export const PARAM = "param:";
export const GRADIENT = "gradient:";
export const MASK = "mask:";
