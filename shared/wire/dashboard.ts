/**
 * @file What the coordinator tells a dashboard: the shape of its answers and of its live events (server-sent events, JSON).
 * All of it is for reading, by anybody who may open the page; nothing here is secret, and nothing changes a run.
 */
import type { Status } from "./status.ts";
import type { StatusChange } from "./statusChange.ts";

/** Where the live events come from. */
export const LIVE_PATH = "/dashboard/live";
/** The run's curves: `?from=&to=&points=`. */
export const CURVES_PATH = "/dashboard/curves";
/** Versions of θ that can be downloaded. */
export const CHECKPOINTS_PATH = "/dashboard/checkpoints";

/** One curve's values, one per point. */
type Column = readonly number[];

/**
 * The rounds `from` … `to` as at most `points` points, each standing for `span` rounds in a row: means, and where a spike
 * must not vanish in a mean the least and the greatest value too.
 */
export type Curves = {
  readonly from: number;
  readonly to: number;
  readonly span: number;
  /** The newest version that is taken in; behind the run's own only while an old ledger is read for the first time. */
  readonly newest: number;
  /** The last version of each point. */
  readonly version: Column;
  readonly atMs: Column;
  /** Nats per token. */
  readonly loss: Column;
  readonly lossMin: Column;
  readonly lossMax: Column;
  readonly gradientNorm: Column;
  readonly gradientNormMin: Column;
  readonly gradientNormMax: Column;
  readonly learningRate: Column;
  readonly tokensPerSecond: Column;
  readonly bytesInPerSecond: Column;
  readonly bytesOutPerSecond: Column;
  /** Mean time of a round, ms, and what of it was computing (the slowest worker's engine) and merging (the optimizer's step). */
  readonly roundMs: Column;
  readonly computeMs: Column;
  readonly commitMs: Column;
  /** Mean number of workers with a part in a round. */
  readonly workers: Column;
  readonly evaluations: { readonly version: Column; readonly loss: Column };
};

/** All rounds so far that this many workers had a part in. */
export type ScalingPoint = {
  readonly workers: number;
  readonly rounds: number;
  readonly tokens: number;
  readonly roundMs: number;
};

export type RunEvent = { readonly id: number; readonly atMs: number; readonly code: string; readonly text: string };

export type Checkpoint = {
  readonly version: number;
  readonly hash: string;
  /** Where its safetensors file is served, relative to the page. */
  readonly path: string;
  readonly bytes: number;
  /** Of the last evaluation up to this version, nats per token. */
  readonly validationLoss: number | null;
  /** When it was written; null for θ as it is now, which is in memory only. */
  readonly savedMs: number | null;
};

export type Checkpoints = {
  /** Tells how the files are to be read; relative to the page. */
  readonly tokenizerPath: string;
  /** Oldest first. */
  readonly checkpoints: readonly Checkpoint[];
};

/** What was committed and evaluated since the last of these; an evaluation comes some rounds after its version. */
export type NewRounds = { readonly curves: Curves; readonly evaluations: Curves["evaluations"] };

/** The data of each live event, by its name. */
export type LiveEvents = {
  /** First on every connection: all there is. Another `process` than before: the coordinator was started again in between. */
  readonly hello: {
    readonly process: string;
    readonly startedMs: number;
    readonly status: Status;
    readonly scaling: readonly ScalingPoint[];
    readonly events: readonly RunEvent[];
  };
  /** Once a second: what became different since the last of these, or since hello. What is not there is as it was. */
  readonly news: {
    readonly status: StatusChange;
    readonly scaling?: readonly ScalingPoint[];
    readonly rounds?: NewRounds;
    readonly events?: readonly RunEvent[];
  };
};
