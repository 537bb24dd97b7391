/**
 * @file What the threads of a tab say to each other: page ⇄ session thread ⇄ compute thread. The page only shows; the
 * session thread holds the socket, because page timers all but stop in a hidden tab; the compute thread may be busy.
 */
import type { Backend } from "../shared/engine/engine.ts";
import type { KindOfKernel } from "../shared/engine/wgsl/kernelTimes.ts";
import type { ComputeCommand, ComputeEvent } from "../shared/worker/commands.ts";
import type { SessionConfig, SessionState } from "../shared/worker/session.ts";
import type { Fallback } from "../shared/wire/protocol.ts";
import type { DataRecord, GuestSituation } from "./guest.ts";

export type TfjsBackend = Exclude<Backend, "onnx">;

export type EngineChoice = {
  /** Only the backend of this name, as the page's address has it; null: the best that works. */
  readonly force: string | null;
  /** Backends that broke while working, and how. */
  readonly avoid: readonly Fallback[];
  /** Windows computed at a time, after the memory was not enough for more; null: whole units. */
  readonly rows: number | null;
};

/** What happens before the first gradient: the bytes that arrived, then the GPU programs that were compiled. */
export type WarmUp =
  | { readonly name: "download"; readonly bytes: number; readonly totalBytes: number | null }
  | { readonly name: "compile"; readonly programs: number };

/** The memory was not enough; from then on this many windows are computed at a time. */
export type SmallerPieces = { readonly backend: Backend; readonly rows: number; readonly reason: string };

/** Since this tab joined. */
export type Usage = {
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly bytesLastHour: number;
  /** Kept by the page, so that a reload does not begin a new hour. */
  readonly record: DataRecord;
  /** What one step moves, up and down together, and what coming back would; 0 before they happened. */
  readonly roundBytes: number;
  readonly returnBytes: number;
  /** Time inside the engine, and time in which work was allowed. */
  readonly computeMs: number;
  readonly workingMs: number;
};

export type PageToSession =
  | {
      readonly type: "join";
      readonly config: SessionConfig;
      readonly identity: SessionState["identity"];
      readonly socketUrl: string;
      readonly force: string | null;
      readonly guest: GuestSituation;
      readonly record: DataRecord;
    }
  | { readonly type: "guest"; readonly guest: GuestSituation }
  /** The machine went offline, came back, or woke up. */
  | { readonly type: "network"; readonly reason: string }
  /** Asks for `kernels`, where `device` said that it can be told. */
  | { readonly type: "timeKernels" }
  /** Stops computing at once, gives leases back, says goodbye. */
  | { readonly type: "stop"; readonly reason: string };

/** What computes, in the browser's words: "nvidia ampere"; and whether it can tell what its kernels take. */
export type DeviceMessage = { readonly type: "device"; readonly device: string; readonly timesKernels: boolean };

/** What a step on this device takes, by kinds of kernels; null where it could not be told after all. */
export type KernelsMessage = { readonly type: "kernels"; readonly kernels: readonly KindOfKernel[] | null };

export type SessionToPage =
  | { readonly type: "state"; readonly state: SessionState }
  | { readonly type: "remember"; readonly identity: NonNullable<SessionState["identity"]> }
  | DeviceMessage
  | KernelsMessage
  | { readonly type: "warmUp"; readonly warmUp: WarmUp }
  | { readonly type: "smallerPieces"; readonly smallerPieces: SmallerPieces }
  /** About once a second. */
  | { readonly type: "usage"; readonly usage: Usage }
  /** This browser cannot take part; the goodbye is being said. */
  | { readonly type: "gaveUp"; readonly reason: string };

export type SessionToCompute =
  /** First, once. */
  | { readonly type: "choice"; readonly choice: EngineChoice }
  | { readonly type: "command"; readonly command: ComputeCommand }
  | { readonly type: "timeKernels" };

export type ComputeToSession =
  | { readonly type: "event"; readonly event: ComputeEvent }
  | DeviceMessage
  | KernelsMessage
  | { readonly type: "warmUp"; readonly warmUp: WarmUp }
  /** A request over HTTP is over. */
  | { readonly type: "fetched"; readonly bytes: number; readonly isSnapshot: boolean }
  /** No backend works here. */
  | { readonly type: "unable"; readonly reason: string }
  /** This thread is of no more use: its GPU is gone, or what it computes cannot be trusted. */
  | {
      readonly type: "broken";
      readonly backend: Backend;
      readonly reason: string;
      /** The memory did not hold this many windows; null when something else broke. */
      readonly outOfMemoryWith: number | null;
    };
