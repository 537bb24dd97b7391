/**
 * @file What the session (socket, heartbeats) and the compute thread (θ, engine, shards) say to each other. Commands are
 * carried out in order; an `apply` also drops the units of earlier versions that have not been started.
 */
import type { Backend } from "../engine/engine.ts";
import type { Answer } from "../engine/examination.ts";
import type {
  Fallback,
  Lease,
  LeaseId,
  RunDescription,
  SnapshotReference,
  Version,
  WorkResult,
} from "../wire/protocol.ts";

export type ComputeCommand =
  /** Create the engine for this run and examine it; `url` is the coordinator's HTTP origin. */
  | { readonly type: "prepare"; readonly run: RunDescription; readonly url: string }
  /** The engine computes wrong numbers, as `reason` says: create the next best one in its place. θ stays. */
  | { readonly type: "replaceEngine"; readonly reason: string }
  /** Fetch and verify θ. */
  | { readonly type: "load"; readonly snapshot: SnapshotReference }
  | { readonly type: "apply"; readonly version: Version; readonly hash: string; readonly payload: Uint8Array }
  | { readonly type: "work"; readonly lease: Lease }
  /** The memory of a payload that is sent, to be used for the next one. */
  | { readonly type: "recycle"; readonly buffer: ArrayBuffer }
  /** From now on compute at most this part of the time, 0 < dutyCycle ≤ 1, and rest in between. Takes effect at once. */
  | { readonly type: "pace"; readonly dutyCycle: number }
  /** Leases with smaller ids would be refused: they end at their next unit. Takes effect at once. */
  | { readonly type: "drop"; readonly before: LeaseId }
  /** Forget all queued work: the connection that leased it is gone. */
  | { readonly type: "forget" };

export type ComputeEvent =
  /** The engine is there and warm; what it found in the examination is for the coordinator to judge. */
  | {
      readonly type: "prepared";
      readonly backend: Backend;
      readonly fallbacks: readonly Fallback[];
      readonly unitMs: number;
      readonly answer: Answer;
    }
  /** There is no other engine: this machine cannot take part. */
  | { readonly type: "unable"; readonly reason: string }
  | { readonly type: "loaded"; readonly version: Version; readonly hash: string }
  | { readonly type: "applied"; readonly version: Version; readonly hash: string }
  /** The last unit of all queued work begins now: time to pull, so that the next lease is here when it ends. */
  | { readonly type: "nearlyIdle" }
  /** The payload is one of `allocatePayload`. */
  | ({ readonly type: "contribution"; readonly payload: Uint8Array<ArrayBuffer> } & WorkResult)
  | ({ readonly type: "evaluation" } & WorkResult)
  /** A lease is over: all its units are reported, or the rest was dropped. */
  | { readonly type: "leaseDone"; readonly lease: LeaseId; readonly dropped: number }
  /** θ is not what the coordinator says it should be; it must be loaded again. */
  | { readonly type: "diverged"; readonly version: Version; readonly reason: string }
  /** The command could not be carried out; the session decides whether to try again. */
  | { readonly type: "failed"; readonly during: ComputeCommand["type"]; readonly message: string };
