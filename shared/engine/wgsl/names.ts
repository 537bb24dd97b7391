/** @file What the inputs and outputs of a plan's graph are called: a tensor of an arena, or some rows of one. */

/** Keys of the dropout masks at a site, [B] u32: what the mask input of the traced graph becomes. */
export const KEYS = "keys:";

/** Where the tokens of an embedding lie, sorted by id: what the embedding's gradient adds up from. See kernels/embeddingGrad.ts. */
export const SEGMENTS = "segments:";

/** `param:wte.weight@4096` is the part of `param:wte.weight` that starts at element 4096. */
export function sliceName(name: string, offset: number): string {
  return `${name}@${offset}`;
}

/** A name's tensor, and the element of it at which the value starts. */
export function parseSlice(name: string): { tensor: string; offset: number } {
  const at = name.lastIndexOf("@");
  return at < 0 ? { tensor: name, offset: 0 } : { tensor: name.slice(0, at), offset: Number(name.slice(at + 1)) };
}
