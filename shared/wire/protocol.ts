/**
 * @file Every message between a worker and the coordinator, in both directions, and the code of every refusal.
 * The rules, with the ids that the tests repeat, are in docs/protocol.md.
 */
import type { Backend } from "../engine/engine.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { Codec } from "../codec/codec.ts";
import type { Sampling } from "../data/windows.ts";

/** Raised on every change that an older peer would misread. */
export const PROTOCOL_VERSION = 2;

export type WorkerId = string & { readonly brand?: "WorkerId" };
export type LeaseId = number & { readonly brand?: "LeaseId" };
/** Version of θ: the number of committed rounds. */
export type Version = number & { readonly brand?: "Version" };

/** A backend that could not be used, and why: a worker never falls back in silence. */
export type Fallback = { readonly backend: Backend; readonly reason: string };

/** What a worker must know of the run before it can compute. */
export type RunDescription = {
  readonly name: string;
  readonly model: ModelSpec;
  readonly seed: number;
  readonly sampling: Sampling;
  /** Samples of one round. */
  readonly batch: number;
  /** Samples of one training unit: the smallest piece of work. */
  readonly unit: number;
  /** Samples of one evaluation unit. */
  readonly evaluationUnit: number;
  readonly steps: number;
  readonly codec: Codec;
  /** Each unit is a contribution of its own; otherwise a worker folds the units of a lease into one. */
  readonly strict: boolean;
  /** Workers may keep activations as 16-bit floats, where they have f16 that works; left out: nobody may. */
  readonly activations?: "f16" | undefined;
  /** Path of the corpus manifest on the coordinator's HTTP side; its shards lie beside it. */
  readonly manifestPath: string;
};

/** An immutable θ, fetched by HTTP. */
export type SnapshotReference = {
  readonly path: string;
  readonly version: Version;
  readonly hash: string;
};

export type LeaseKind = "train" | "evaluate";

/**
 * Work for one worker on θ_base. Unit k covers the samples origin + k·unit … of the `samples` that the round (or the
 * evaluation) has in all; the last unit may be shorter. For `evaluate` the samples are windows of the validation split.
 */
export type Lease = {
  readonly lease: LeaseId;
  readonly kind: LeaseKind;
  readonly base: Version;
  readonly origin: number;
  readonly samples: number;
  readonly firstUnit: number;
  readonly units: number;
  /** From receipt; after it the units may be given to others. */
  readonly deadlineMs: number;
  /** W3C trace context of the coordinator's span, when somebody collects traces. */
  readonly traceparent?: string | undefined;
};

/** What the run looks like, for people: sent about once a second. */
export type Progress = {
  readonly version: Version;
  readonly steps: number;
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  /** Tokens committed by the run. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly workers: number;
  /** Of the tokens committed so far, those this worker computed, in all its visits. */
  readonly yourTokens: number;
  readonly yourTokensPerSecond: number;
  /** Committed rounds that hold a gradient of this worker. */
  readonly yourRounds: number;
  /** 1 for whoever has computed most tokens of this run; null before the first. */
  readonly yourRank: number | null;
  /** Workers with a part in any committed round. */
  readonly contributors: number;
  readonly reason: string;
};

/** What was computed for units of a lease. */
export type WorkResult = {
  readonly lease: LeaseId;
  readonly base: Version;
  /** Of the θ that was used. */
  readonly hash: string;
  readonly firstUnit: number;
  readonly units: number;
  readonly tokens: number;
  readonly lossSum: number;
  /** Time inside the engine. */
  readonly computeMs: number;
};

export type WorkerMessage =
  | {
      readonly type: "hello";
      readonly protocolVersion: number;
      readonly kind: "node" | "browser";
      readonly name: string;
      /** The machine in a few words, for the operator. Pages say nothing of theirs. */
      readonly device?: string | undefined;
      readonly token?: string | undefined;
      /** Keeps the identity of an earlier connection. */
      readonly resume?: { readonly worker: WorkerId; readonly secret: string } | undefined;
    }
  /** What the engine found for the known batch (shared/engine/examination.ts); payload: the sketch, f64. Before `ready`. */
  | { readonly type: "examination"; readonly backend: Backend; readonly lossSum: number; readonly tokens: number }
  /** θ_version is loaded and the engine is warm; from here on the worker receives every update. */
  | {
      readonly type: "ready";
      readonly backend: Backend;
      readonly fallbacks: readonly Fallback[];
      readonly version: Version;
      readonly hash: string;
      /** Measured on the examination's batch; only a first guess, replaced by what the coordinator measures. */
      readonly unitMs: number;
    }
  /** Asks for one lease. At most one pull is open per worker. */
  | { readonly type: "pull" }
  /** Sum (not mean) of the gradients over the units' tokens; payload: [P] in ParamLayout order, encoded. */
  | ({ readonly type: "contribution" } & WorkResult)
  | ({ readonly type: "evaluation" } & WorkResult)
  /** The worker will not finish this lease. */
  | { readonly type: "release"; readonly lease: LeaseId; readonly reason: string }
  | { readonly type: "heartbeat" }
  | { readonly type: "leave"; readonly reason: string };

export type CoordinatorMessage =
  | {
      readonly type: "welcome";
      readonly protocolVersion: number;
      readonly worker: WorkerId;
      readonly secret: string;
      readonly run: RunDescription;
      readonly snapshot: SnapshotReference;
      readonly heartbeatMs: number;
    }
  /** Load this θ, then say `ready` again. */
  | { readonly type: "snapshot"; readonly snapshot: SnapshotReference; readonly reason: string }
  | ({ readonly type: "lease" } & Lease)
  /** θ_version = θ_{version−1} ⊕ decode(payload): the same bytes for every worker. */
  | { readonly type: "update"; readonly version: Version; readonly hash: string }
  /** Why a pull is not answered with a lease yet. */
  | { readonly type: "waiting"; readonly reason: string }
  | ({ readonly type: "progress" } & Progress)
  | {
      readonly type: "refused";
      readonly code: RefusalCode;
      readonly message: string;
      /** The connection is closed after this message. */
      readonly fatal: boolean;
      /** What would be accepted. */
      readonly accept?: Acceptable | undefined;
    }
  | { readonly type: "finished"; readonly version: Version };

/** Results for this version, of this lease of the receiver's and of newer ones; of none that it has now where there is no lease. */
export type Acceptable = { readonly version: Version; readonly lease?: LeaseId | undefined };

/** Each has a heading in docs/protocol.md that says what the receiver should do. */
export type RefusalCode =
  | "bad-frame"
  | "bad-message"
  | "too-large"
  | "protocol-version"
  | "bad-token"
  | "bad-invite"
  | "bad-origin"
  | "out-of-order"
  | "unknown-lease"
  | "stale-version"
  | "already-done"
  | "wrong-hash"
  | "wrong-size"
  | "wrong-tokens"
  | "not-finite"
  | "bad-encoding"
  | "handshake-timeout"
  | "heartbeat-timeout"
  | "too-slow-reader"
  | "too-many-workers"
  | "address-limit"
  | "rate-limit"
  | "wrong-answer"
  | "norm-outlier"
  | "norm-clipped"
  | "kicked"
  | "banned";

/** The peer is wrong: reply with the code; close when it is fatal; carry on. */
export class ProtocolError extends Error {
  readonly code: RefusalCode;
  readonly fatal: boolean;

  constructor(code: RefusalCode, message: string, { fatal = true }: { fatal?: boolean } = {}) {
    super(message);
    this.name = "ProtocolError";
    this.code = code;
    this.fatal = fatal;
  }
}
