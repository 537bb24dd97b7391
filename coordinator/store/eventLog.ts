/** @file What happens, to the ledger, at a bounded rate: a flood of refusals must neither fill the disk nor hide what else happens. */
import { fullBucket, takeTokens } from "../edge/tokenBucket.ts";
import type { Bucket, BucketRate } from "../edge/tokenBucket.ts";

/** For each code: a burst tells what is going on, a trickle that it still does. Metrics count every one. */
const EVENT_RATE: BucketRate = { perSecond: 2, burst: 100 };

/** Passes on what comes at a bearable rate; the next one of its code says how many did not. */
export function createEventLog(
  write: (code: string, text: string) => void,
  nowMs: () => number,
): (code: string, text: string) => void {
  const byCode = new Map<string, { bucket: Bucket; unwritten: number }>();
  return (code, text) => {
    const entry = byCode.get(code) ?? { bucket: fullBucket(EVENT_RATE, nowMs()), unwritten: 0 };
    byCode.set(code, entry);
    const after = takeTokens(entry.bucket, EVENT_RATE, 1, nowMs());
    if (after === null) {
      entry.unwritten += 1;
      return;
    }
    const more = entry.unwritten === 0 ? "" : ` (and ${entry.unwritten} more before it)`;
    byCode.set(code, { bucket: after, unwritten: 0 });
    write(code, text + more);
  };
}
