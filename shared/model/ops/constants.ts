/** @file Numbers in the definitions of named ops that lowerings need too: theirs without tfjs. */

/** 2u = x·(LINEAR + CUBIC·x²) in GELU's tanh form; u = √(2/π)(x + 0.044715·x³). */
export const GELU_LINEAR: number = 2 * Math.sqrt(2 / Math.PI);
export const GELU_CUBIC: number = 0.044715 * GELU_LINEAR;

/** NUMERICS: as GPT-2 and torch's default. */
export const LAYER_NORM_EPSILON = 1e-5;
