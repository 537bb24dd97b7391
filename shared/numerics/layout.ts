/**
 * @file Where each tensor lies in the flat arenas (θ, gradients, optimizer moments): one order, one alignment, everywhere.
 */

export type TensorShape = { readonly name: string; readonly shape: readonly number[] };

export type TensorSlot = TensorShape & {
  /** First element in the arena; a multiple of {@link SLOT_ALIGNMENT}. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
  /** Weight decay applies to tensors of rank ≥ 2 only (not to biases and norms). */
  readonly decay: boolean;
};

export type ParamLayout = {
  readonly slots: readonly TensorSlot[];
  /** P: elements of an arena, padding included. Padding holds zeros and has zero gradient. */
  readonly length: number;
  /** Elements that are parameters, padding not included. */
  readonly parameters: number;
};

/** Elements; the largest codec block, so that no block straddles two tensors. */
export const SLOT_ALIGNMENT = 256;

/** Slots in the order given, each start (and the arena's end) aligned. @throws RangeError on an empty or repeated name. */
export function layoutOf(tensors: readonly TensorShape[]): ParamLayout {
  const slots: TensorSlot[] = [];
  const seen = new Set<string>();
  let offset = 0;
  let parameters = 0;
  for (const { name, shape } of tensors) {
    if (name === "" || seen.has(name)) throw new RangeError(`parameter name "${name}" is empty or repeated`);
    seen.add(name);
    const size = shape.reduce((product, extent) => product * extent, 1);
    slots.push({ name, shape, offset, size, decay: shape.length >= 2 });
    parameters += size;
    offset += Math.ceil(size / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
  }
  return { slots, length: offset, parameters };
}

/** Elements of a tensor. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}
