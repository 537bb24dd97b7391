/** @file Tokens per second over the recent past, in bounded memory. */

export type Rate = {
  readonly add: (atMs: number, amount: number) => void;
  readonly perSecond: (nowMs: number) => number;
};

/** Long enough to smooth rounds of seconds, short enough to show a worker that left. */
const WINDOW_MS = 10_000;

/** Entries kept are sums over slots of this length. */
const SLOT_MS = 250;

export function createRate(): Rate {
  const slots: { atMs: number; sum: number }[] = [];
  let firstMs: number | null = null;
  return {
    add(atMs, amount) {
      firstMs ??= atMs;
      const last = slots.at(-1);
      if (last !== undefined && atMs - last.atMs < SLOT_MS) last.sum += amount;
      else slots.push({ atMs, sum: amount });
      while (slots.length > WINDOW_MS / SLOT_MS + 1) slots.shift();
    },
    perSecond(nowMs) {
      const recent = slots.filter(({ atMs }) => nowMs - atMs < WINDOW_MS);
      const oldest = recent[0];
      if (oldest === undefined || firstMs === null) return 0;
      const spanMs = Math.min(WINDOW_MS, Math.max(SLOT_MS, nowMs - firstMs));
      return (recent.reduce((total, { sum }) => total + sum, 0) / spanMs) * 1000;
    },
  };
}
