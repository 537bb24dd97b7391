/** @file A growing list of token ids without a boxed number each: a corpus has millions. */

export type IdBuffer = {
  push(id: number): void;
  append(ids: Uint16Array): void;
  /** A copy of what was pushed. */
  toArray(): Uint16Array;
};

export function idBuffer(capacity = 1024): IdBuffer {
  let ids = new Uint16Array(capacity);
  let length = 0;
  const reserve = (extra: number): void => {
    if (length + extra <= ids.length) return;
    const larger = new Uint16Array(Math.max(2 * ids.length, length + extra));
    larger.set(ids);
    ids = larger;
  };
  return {
    push(id) {
      if (length === ids.length) reserve(1);
      ids[length++] = id;
    },
    append(more) {
      reserve(more.length);
      ids.set(more, length);
      length += more.length;
    },
    toArray: () => ids.slice(0, length),
  };
}
