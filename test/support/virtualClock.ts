/** @file Time that moves only when told to: events in order of their time, then of their scheduling. */

export type VirtualClock = {
  readonly nowMs: () => number;
  readonly after: (ms: number, callback: () => void) => () => void;
  readonly every: (ms: number, callback: () => void) => () => void;
  readonly sleep: (ms: number) => Promise<void>;
  /** Callbacks that are still to come. */
  readonly pending: () => number;
  /** Carries out what is due until `done` or until `limitMs`; promises settle in between. */
  readonly runUntil: (done: () => boolean, limitMs: number) => Promise<void>;
};

export function virtualClock(): VirtualClock {
  let nowMs = 0;
  let sequence = 0;
  let cancelled = 0;
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
      if (entry.callback !== null) cancelled += 1;
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
      let cancel = after(ms, again);
      function again(): void {
        callback();
        if (!stopped) cancel = after(ms, again);
      }
      return () => {
        stopped = true;
        cancel();
      };
    },
    sleep: (ms) => new Promise((resolve) => after(ms, resolve)),
    pending: () => heap.length - cancelled,
    async runUntil(done, limitMs) {
      while (!done()) {
        const next = pop();
        if (next === undefined) throw new Error(`nothing is going to happen any more, at ${nowMs} ms`);
        if (next.at > limitMs) throw new Error(`not done after ${limitMs} ms of virtual time`);
        if (next.callback === null) {
          cancelled -= 1;
          continue;
        }
        const { callback } = next;
        next.callback = null;
        nowMs = next.at;
        callback();
        // Whatever the callback resolved is carried on before time moves, however long the chain of promises.
        await settled();
      }
    },
  };
}

/** Resolves after every promise job that is under way: jobs run before the event loop turns. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
