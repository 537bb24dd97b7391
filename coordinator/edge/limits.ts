/** @file The bounds at the edge: what an operator may set of them, and what follows from it. */
import type { AllowanceRates } from "./allowance.ts";
import type { BucketRate } from "./tokenBucket.ts";

export type Limits = {
  /** Worker connections in all. */
  readonly workers: number;
  readonly workersPerAddress: number;
  /** New worker connections per second and address. */
  readonly connectsPerSecond: number;
  /** HTTP requests per second and address. */
  readonly requestsPerSecond: number;
  /** Messages per second and connection that no lease asked for. */
  readonly messagesPerSecond: number;
};

export const defaultLimits: Limits = {
  // Each costs a socket and a few kilobytes.
  workers: 1000,
  // A school, an office or a CI cluster behind one NAT; a quarter of the coordinator's places.
  workersPerAddress: 256,
  // Fast enough for a class that opens the page together; the burst covers all of them coming back at once.
  connectsPerSecond: 20,
  // A tab that joins makes about 30 requests, once; a dashboard one or two a second.
  requestsPerSecond: 200,
  // An honest worker has a heartbeat every five seconds, and a `ready` after each reconnect.
  messagesPerSecond: 10,
};

/** Per address: all workers that it may have come back at once after a restart. */
export function connectRate({ connectsPerSecond, workersPerAddress }: Limits): BucketRate {
  return { perSecond: connectsPerSecond, burst: Math.max(connectsPerSecond, workersPerAddress) };
}

/** Per address: a room full of tabs that load the page at once. */
export function requestRate({ requestsPerSecond }: Limits): BucketRate {
  return { perSecond: requestsPerSecond, burst: 10 * requestsPerSecond };
}

/** Open TCP connections of an address: a browser has six for HTTP beside its WebSocket, but not for long. */
export function connectionsPerAddress({ workersPerAddress }: Limits): number {
  return Math.max(64, 4 * workersPerAddress);
}

/** Open TCP connections in all. */
export function connectionsInAll({ workers }: Limits): number {
  return Math.max(256, 4 * workers);
}

/** Per connection. A kilobyte a message on average; the longest `ready` has three, the longest `hello` two and a half. */
export function allowanceRates({ messagesPerSecond }: Limits): AllowanceRates {
  return {
    messages: { perSecond: messagesPerSecond, burst: 10 * messagesPerSecond },
    bytes: { perSecond: 1024 * messagesPerSecond, burst: 65_536 },
  };
}

/**
 * Messages that no lease asked for, of all connections of an address together: two and a half times the heartbeats of as many
 * workers as it may have, and room for all of them to come back at once (hello, examination, ready and pull cost 8).
 */
export function strayMessageRate({ messagesPerSecond, workersPerAddress }: Limits): BucketRate {
  return {
    perSecond: messagesPerSecond + workersPerAddress / 2,
    burst: 10 * Math.max(messagesPerSecond, workersPerAddress),
  };
}

/** Wrong admin tokens per address: enough for a typing mistake, far too few to guess. */
export const wrongTokenRate: BucketRate = { perSecond: 0.2, burst: 10 };
