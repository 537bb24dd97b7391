/**
 * @file What the threads of a tab say to each other: page ⇄ session thread ⇄ compute thread. The page only shows; the
 * session thread holds the socket, because page timers all but stop in a hidden tab; the compute thread may be busy.
 */
import type { Backend } from "../shared/engine/engine.ts";
import type { ComputeCommand, ComputeEvent } from "../shared/worker/commands.ts";
import type { SessionConfig, SessionState } from "../shared/worker/session.ts";
import type { Fallback } from "../shared/wire/protocol.ts";

export type TfjsBackend = Exclude<Backend, "onnx">;

export type EngineChoice = {
  /** Only the backend of this name, as the page's address has it; null: the best that works. */
  readonly force: string | null;
  /** Backends that broke while working, and how. */
  readonly avoid: readonly Fallback[];
};

export type PageToSession =
  | {
      readonly type: "join";
      readonly config: SessionConfig;
      readonly identity: SessionState["identity"];
      readonly socketUrl: string;
      readonly force: string | null;
    }
  /** Stops computing at once, gives leases back, says goodbye. */
  | { readonly type: "stop"; readonly reason: string };

export type SessionToPage =
  | { readonly type: "state"; readonly state: SessionState }
  | { readonly type: "remember"; readonly identity: NonNullable<SessionState["identity"]> }
  /** What computes, in the browser's words: "nvidia ampere". */
  | { readonly type: "device"; readonly device: string }
  /** This browser cannot take part; the goodbye is being said. */
  | { readonly type: "gaveUp"; readonly reason: string };

export type SessionToCompute =
  /** First, once. */
  | { readonly type: "choice"; readonly choice: EngineChoice }
  | { readonly type: "command"; readonly command: ComputeCommand };

export type ComputeToSession =
  | { readonly type: "event"; readonly event: ComputeEvent }
  | { readonly type: "device"; readonly device: string }
  /** No backend works here. */
  | { readonly type: "unable"; readonly reason: string }
  /** This thread is of no more use: its GPU is gone, or what it computes cannot be trusted. */
  | { readonly type: "broken"; readonly backend: Backend; readonly reason: string };
