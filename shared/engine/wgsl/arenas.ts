/** @file The flat arenas (θ, gradients, optimizer state) as GPU buffers: one each, or several where a buffer may not be that large. */
import type { ParamLayout, TensorSlot } from "../../numerics/layout.ts";

/** Bytes behind the last gradient, for the loss: one copy reads both back. */
export const ALIGNMENT_OF_LOSS = 256;

export type Segment = {
  /** Elements [start, end) of the arena. */
  readonly start: number;
  readonly end: number;
};

/** Cut between tensors, and as late as possible. @throws RangeError naming a tensor that is larger than a buffer may be. */
export function arenaSegments(layout: ParamLayout, maxBufferBytes: number): Segment[] {
  const segments: Segment[] = [];
  let start = 0;
  for (const [i, slot] of layout.slots.entries()) {
    const end = layout.slots[i + 1]?.offset ?? layout.length;
    if (4 * (end - slot.offset) > maxBufferBytes) {
      throw new RangeError(
        `parameter "${slot.name}" has ${4 * slot.size} bytes, a buffer of this device ${maxBufferBytes}`,
      );
    }
    if (4 * (end - start) > maxBufferBytes) {
      segments.push({ start, end: slot.offset });
      start = slot.offset;
    }
  }
  return [...segments, { start, end: layout.length }];
}

/** Which buffer has an element of the arena, and how many bytes into it. */
export function placeIn(segments: readonly Segment[], element: number): { buffer: number; offset: number } {
  const buffer = segments.findIndex(({ end }) => element < end);
  return { buffer, offset: 4 * (element - (segments[buffer]?.start ?? 0)) };
}

/** The slot's tensor by name. */
export function slotNamed({ slots }: ParamLayout, name: string): TensorSlot {
  const slot = slots.find((slot) => slot.name === name);
  if (!slot) throw new Error(`the layout has no parameter "${name}"`);
  return slot;
}
