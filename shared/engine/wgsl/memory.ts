/** @file Fourth pass: a place for every value that lives only during the step, so that those alive together do not overlap. */

export type Lifetime = {
  readonly id: number;
  readonly bytes: number;
  /** First and last dispatch, inclusive. */
  readonly from: number;
  readonly to: number;
};

export type MemoryPlan = {
  readonly places: ReadonlyMap<number, { readonly buffer: number; readonly offset: number }>;
  /** Bytes of each buffer. */
  readonly buffers: readonly number[];
  /** Most bytes alive at any one time: no plan can do with less. */
  readonly lowerBound: number;
};

/** Bytes; WebGPU's default for the offset of a storage binding. */
export const ALIGNMENT = 256;

/**
 * Largest first, each at the lowest offset where nothing overlaps it in time and space (Pisarchyk & Lee, 2001.03288). Buffers
 * beyond `maxBufferBytes` are continued in another one. @throws RangeError for a value that fits none.
 */
export function planMemory(lifetimes: readonly Lifetime[], maxBufferBytes: number): MemoryPlan {
  const placed: (Lifetime & { buffer: number; offset: number; size: number })[] = [];
  const buffers: number[] = [];
  const bySize = [...lifetimes].sort((a, b) => b.bytes - a.bytes || a.from - b.from || a.id - b.id);
  for (const lifetime of bySize) {
    const size = aligned(lifetime.bytes);
    if (size > maxBufferBytes) throw new RangeError(`a value of ${size} bytes, a buffer has ${maxBufferBytes}`);
    const together = placed.filter(({ from, to }) => from <= lifetime.to && lifetime.from <= to);
    let buffer = 0;
    let offset = lowestGap(together, buffer, size);
    while (offset + size > maxBufferBytes) offset = lowestGap(together, ++buffer, size);
    placed.push({ ...lifetime, buffer, offset, size });
    buffers[buffer] = Math.max(buffers[buffer] ?? 0, offset + size);
  }
  return {
    places: new Map(placed.map(({ id, buffer, offset }) => [id, { buffer, offset }])),
    buffers,
    lowerBound: mostAlive(lifetimes),
  };
}

function lowestGap(
  together: readonly { buffer: number; offset: number; size: number }[],
  buffer: number,
  size: number,
): number {
  // prettier-ignore
  const taken = together.filter((other) => other.buffer === buffer).sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const other of taken) {
    if (other.offset - end >= size) break;
    end = Math.max(end, other.offset + other.size);
  }
  return end;
}

function mostAlive(lifetimes: readonly Lifetime[]): number {
  const changes = new Map<number, number>();
  for (const { bytes, from, to } of lifetimes) {
    changes.set(from, (changes.get(from) ?? 0) + aligned(bytes));
    changes.set(to + 1, (changes.get(to + 1) ?? 0) - aligned(bytes));
  }
  let [alive, most] = [0, 0];
  for (const [, change] of [...changes].sort(([a], [b]) => a - b)) {
    alive += change;
    most = Math.max(most, alive);
  }
  return most;
}

export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
