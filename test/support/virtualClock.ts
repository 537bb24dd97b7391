/** @file Time that moves only when told to: events in order of their time, then of their scheduling. */

export type VirtualClock = {
  readonly nowMs: () => number;
  readonly after: (ms: number, callback: () => void) => () => void;
  readonly every: (ms: number, callback: () => void) => () => void;
  /** Carries out what is due until `done` or until `limitMs`; promises settle in between. */
  readonly runUntil: (done: () => boolean, limitMs: number) => Promise<void>;
};

export function virtualClock(): VirtualClock {
  let nowMs = 0;
  let sequence = 0;
  // A binary heap on (at, sequence).
  const heap: { at: number; sequence: number; callback: (() => void) | null }[] = [];
  const before = (a: number, b: number): boolean => {
    const [x, y] = [heap[a]!, heap[b]!];
    return x.at < y.at || (x.at === y.at && x.sequence < y.sequence);
  };
  const swap = (a: number, b: number): void => {
    [heap[a], heap[b]] = [heap[b]!, heap[a]!];
  };
  function after(ms: number, callback: () => void): () => void {
    const entry = { at: nowMs + Math.max(0, ms), sequence: sequence++, callback: callback as (() => void) | null };
    heap.push(entry);
    for (let child = heap.length - 1; child > 0;) {
      const parent = (child - 1) >> 1;
      if (!before(child, parent)) break;
      swap(child, parent);
      child = parent;
    }
    return () => {
      entry.callback = null;
    };
  }
  function pop(): { at: number; callback: (() => void) | null } | undefined {
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    heap[0] = last;
    for (let parent = 0; ;) {
      let least = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2])
        if (child < heap.length && before(child, least)) least = child;
      if (least === parent) return top;
      swap(parent, least);
      parent = least;
    }
  }
  return {
    nowMs: () => nowMs,
    after,
    every(ms, callback) {
      let stopped = false;
      const again = (): void => {
        if (stopped) return;
        callback();
        after(ms, again);
      };
      after(ms, again);
      return () => {
        stopped = true;
      };
    },
    async runUntil(done, limitMs) {
      while (!done()) {
        const next = pop();
        if (next === undefined) throw new Error(`nothing is going to happen any more, at ${nowMs} ms`);
        if (next.at > limitMs) throw new Error(`not done after ${limitMs} ms of virtual time`);
        if (next.callback === null) continue;
        nowMs = next.at;
        next.callback();
        // Whatever the callback resolved is carried on before time moves.
        await Promise.resolve();
        await Promise.resolve();
        await Promise.resolve();
      }
    },
  };
}
