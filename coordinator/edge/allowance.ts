/**
 * @file What one worker's connection may send: what its leases ask for, and a little more. A worker returns each unit that it
 * was lent once at most and pulls once per answer, so the coordinator's own messages say how much an honest one has to say;
 * only what goes beyond them draws from token buckets. A fast worker is therefore never slowed, and a hostile one cannot make
 * the coordinator read more than what it was lent.
 */
import type { LeaseId } from "../../shared/wire/protocol.ts";
import { fullBucket, takeTokens } from "./tokenBucket.ts";
import type { Bucket, BucketRate } from "./tokenBucket.ts";

export type AllowanceRates = {
  /** Messages that no lease, answer or update asked for: heartbeats, the first pull, `ready`. */
  readonly messages: BucketRate;
  /** Bytes beyond the leases' payloads. */
  readonly bytes: BucketRate;
};

export type Allowance = {
  readonly messages: Bucket;
  readonly bytes: Bucket;
  /** Units not returned yet, by lease, oldest first. */
  readonly lent: ReadonlyMap<LeaseId, { readonly units: number; readonly unitBytes: number }>;
  readonly lentBytes: number;
  readonly pulls: number;
  readonly releases: number;
};

/** What a message is to its allowance. */
export type Spending =
  | { readonly type: "result"; readonly lease: LeaseId; readonly units: number }
  | { readonly type: "pull" }
  | { readonly type: "release"; readonly lease: LeaseId }
  | { readonly type: "ready" }
  | { readonly type: "other" };

/** A worker holds two leases; those of the round before may still be on their way back. */
const MAX_LEASES = 8;

/** A new version ends the leases of the one before: a worker gives back at most so many then. */
const RELEASES_PER_UPDATE = 2;

/** `ready` may be answered with several updates, and makes the coordinator forget and plan anew. */
const READY_COST = 5;

export function initialAllowance(rates: AllowanceRates, nowMs: number): Allowance {
  return {
    messages: fullBucket(rates.messages, nowMs),
    bytes: fullBucket(rates.bytes, nowMs),
    lent: new Map(),
    lentBytes: 0,
    pulls: 0,
    releases: 0,
  };
}

/** A lease was sent. @param unitBytes of one unit's result on the wire, at most. */
export function allowLease(allowance: Allowance, lease: LeaseId, units: number, unitBytes: number): Allowance {
  const lent = new Map(allowance.lent).set(lease, { units, unitBytes });
  for (const oldest of lent.keys()) {
    if (lent.size <= MAX_LEASES) break;
    lent.delete(oldest);
  }
  const lentBytes = allowance.lentBytes + units * unitBytes;
  return withLent({ ...allowance, lentBytes, pulls: Math.min(MAX_LEASES, allowance.pulls + 1) }, lent);
}

/** An update was sent: what was leased for the version before is given back. */
export function allowReleases(allowance: Allowance): Allowance {
  return { ...allowance, releases: RELEASES_PER_UPDATE };
}

/** After so many bytes arrived; null when they are more than the allowance. */
export function spendBytes(
  allowance: Allowance,
  bytes: number,
  rates: AllowanceRates,
  nowMs: number,
): Allowance | null {
  const fromLeases = Math.min(bytes, allowance.lentBytes);
  const rest = bytes - fromLeases;
  if (rest === 0) return { ...allowance, lentBytes: allowance.lentBytes - fromLeases };
  const bucket = takeTokens(allowance.bytes, rates.bytes, rest, nowMs);
  return bucket === null ? null : { ...allowance, bytes: bucket, lentBytes: allowance.lentBytes - fromLeases };
}

/**
 * After a message; null when it is one too many. `asked` tells whether the coordinator had asked for it.
 *
 * What a result did not need of its bytes, and those of a lease that is given back, are left for no other use.
 */
export function spendMessage(
  allowance: Allowance,
  spending: Spending,
  rates: AllowanceRates,
  nowMs: number,
): { readonly allowance: Allowance; readonly asked: boolean } | null {
  switch (spending.type) {
    case "result": {
      const lease = allowance.lent.get(spending.lease);
      if (lease === undefined || spending.units > lease.units) break;
      const lent = new Map(allowance.lent);
      if (spending.units === lease.units) lent.delete(spending.lease);
      else lent.set(spending.lease, { ...lease, units: lease.units - spending.units });
      return { allowance: withLent(allowance, lent), asked: true };
    }
    case "pull":
      if (allowance.pulls === 0) break;
      return { allowance: { ...allowance, pulls: allowance.pulls - 1 }, asked: true };
    case "release": {
      const lent = new Map(allowance.lent);
      lent.delete(spending.lease);
      const after = withLent(allowance, lent);
      if (after.releases > 0) return { allowance: { ...after, releases: after.releases - 1 }, asked: true };
      return takeMessage(after, 1, rates, nowMs);
    }
    case "ready":
      return takeMessage(allowance, READY_COST, rates, nowMs);
    case "other":
      break;
    default:
      spending satisfies never;
  }
  return takeMessage(allowance, 1, rates, nowMs);
}

function takeMessage(
  allowance: Allowance,
  cost: number,
  rates: AllowanceRates,
  nowMs: number,
): { readonly allowance: Allowance; readonly asked: boolean } | null {
  const messages = takeTokens(allowance.messages, rates.messages, cost, nowMs);
  return messages === null ? null : { allowance: { ...allowance, messages }, asked: false };
}

/** Never more bytes than what is lent has units for; less where some of them have arrived. */
function withLent(allowance: Allowance, lent: Allowance["lent"]): Allowance {
  let most = 0;
  for (const { units, unitBytes } of lent.values()) most += units * unitBytes;
  return { ...allowance, lent, lentBytes: Math.min(allowance.lentBytes, most) };
}
