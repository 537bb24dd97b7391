/**
 * @file What one address may hold open and how fast it may ask, for any number of addresses in bounded memory [I5]. Time
 * comes in with each call.
 */
import { bucketLevel, fullBucket, takeTokens } from "./tokenBucket.ts";
import type { Bucket, BucketRate } from "./tokenBucket.ts";

/** How many of something each address holds. */
export type AddressCounts = {
  /** False, and nothing counted, when the address has its fill. Every true needs one `leave`. */
  readonly enter: (address: string) => boolean;
  readonly leave: (address: string) => void;
  readonly of: (address: string) => number;
};

export function createAddressCounts(maximum: number): AddressCounts {
  const counts = new Map<string, number>();
  const of = (address: string): number => counts.get(address) ?? 0;
  return {
    of,
    enter(address) {
      if (of(address) >= maximum) return false;
      counts.set(address, of(address) + 1);
      return true;
    },
    leave(address) {
      if (of(address) > 1) counts.set(address, of(address) - 1);
      else counts.delete(address);
    },
  };
}

/** A token bucket for each address. */
export type AddressRates = {
  /** False, and nothing taken, when the address asked too fast. */
  readonly take: (address: string, amount: number, nowMs: number) => boolean;
  /** Whole milliseconds until `amount` can be taken, for a Retry-After. */
  readonly waitMs: (address: string, amount: number, nowMs: number) => number;
  readonly size: () => number;
};

/** Some megabytes at most. Whoever has more addresses than this gains by it no more than by having them. */
const MAX_ADDRESSES = 20_000;

export function createAddressRates(rate: BucketRate, maxAddresses: number = MAX_ADDRESSES): AddressRates {
  // In order of last use: the one in front was quiet longest.
  const buckets = new Map<string, Bucket>();
  return {
    take(address, amount, nowMs) {
      const bucket = buckets.get(address) ?? fullBucket(rate, nowMs);
      const after = takeTokens(bucket, rate, amount, nowMs);
      buckets.delete(address);
      buckets.set(address, after ?? bucket);
      if (buckets.size > maxAddresses) {
        for (const quietest of buckets.keys()) {
          buckets.delete(quietest);
          break;
        }
      }
      return after !== null;
    },
    waitMs(address, amount, nowMs) {
      const bucket = buckets.get(address);
      if (bucket === undefined) return 0;
      return Math.ceil((Math.max(0, amount - bucketLevel(bucket, rate, nowMs)) / rate.perSecond) * 1000);
    },
    size: () => buckets.size,
  };
}
