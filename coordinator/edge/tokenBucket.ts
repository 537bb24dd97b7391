/** @file A token bucket: how much of something is allowed, as a pure function of time. */

export type BucketRate = {
  /** Refill, tokens per second. */
  readonly perSecond: number;
  /** The most that is ever in it: what may be taken at once after a quiet time. */
  readonly burst: number;
};

export type Bucket = { readonly tokens: number; readonly atMs: number };

export function fullBucket(rate: BucketRate, nowMs: number): Bucket {
  return { tokens: rate.burst, atMs: nowMs };
}

/** What is in it at `nowMs`: min(burst, tokens + perSecond · seconds). Time that steps back refills nothing. */
export function bucketLevel(bucket: Bucket, rate: BucketRate, nowMs: number): number {
  return Math.min(rate.burst, bucket.tokens + (rate.perSecond * Math.max(0, nowMs - bucket.atMs)) / 1000);
}

/** The bucket after `amount` was taken out; null when there is not so much in it. */
export function takeTokens(bucket: Bucket, rate: BucketRate, amount: number, nowMs: number): Bucket | null {
  const level = bucketLevel(bucket, rate, nowMs);
  return amount > level ? null : { tokens: level - amount, atMs: Math.max(nowMs, bucket.atMs) };
}
