/** @file What the round reducer knows and says: its state, events and effects. The decisions are in round.ts, grant.ts and leases.ts. */
import type {
  Acceptable,
  Lease,
  LeaseId,
  LeaseKind,
  RefusalCode,
  Version,
  WorkerId,
} from "../../shared/wire/protocol.ts";
import type { GuardChoice, NormBounds, NormReference } from "./normGuard.ts";
import { emptyAccount } from "./leaseAccount.ts";
import type { LeaseAccount, OpenAccount } from "./leaseAccount.ts";
import type { Pool, UnitResult } from "./pool.ts";

export type RoundConfig = {
  /** Samples of a round. */
  readonly batch: number;
  /** Samples of a training unit and of an evaluation unit. */
  readonly unit: number;
  readonly evaluationUnit: number;
  /** Target tokens of a sample: contributions are weighed by what was leased, never by what a worker claims. */
  readonly tokensPerSample: number;
  /** The run ends at this version. */
  readonly steps: number;
  /** Versions between evaluations; 0 for none. */
  readonly evaluateEvery: number;
  readonly evaluationSamples: number;
  readonly finalEvaluationSamples: number;
  readonly strict: boolean;
  /** What becomes of a contribution whose norm is far above those of recent rounds. */
  readonly guard: GuardChoice;
  /** No lease expires sooner: a short pause of the machine is not a failure. */
  readonly minLeaseMs: number;
  /** A worker that is too slow for the rounds is tried again this often: its speed may have changed. */
  readonly probeEveryMs: number;
};

export type LeaseRecord = {
  readonly worker: WorkerId;
  readonly kind: LeaseKind;
  readonly firstUnit: number;
  readonly units: number;
  /** Units of this lease that were returned, in whatever way; each counts once, however often its result is sent. */
  readonly returned: number;
  readonly returnedUnits: ReadonlySet<number>;
  readonly grantedMs: number;
  readonly deadlineMs: number;
  readonly expired: boolean;
};

export type WorkerRecord = {
  readonly ready: boolean;
  /** What it computes has not been seen to be right yet: no leases. */
  readonly onTrial: boolean;
  readonly version: Version;
  readonly pulls: boolean;
  /** Measured time of one training sample, ms; null before `ready`. */
  readonly sampleMs: number | null;
  /** When the unit in work was begun, as far as the coordinator can know. */
  readonly busySinceMs: number;
  readonly probedMs: number;
  /** Ready when something of others had been merged already, and of this one nothing yet. */
  readonly isNew: boolean;
  /** Tokens of this worker's merged contributions. */
  readonly tokens: number;
  readonly refused: number;
  /** Contributions refused for their content, one after the other. */
  readonly strikes: number;
  readonly suspendedUntilMs: number;
  readonly waitingReason: string;
};

export type RoundPhase = "working" | "committing" | "finished" | "failed";

/** Who may hold a run: the operator until they say otherwise, a full disk until a write succeeds. */
export type PauseCause = "operator" | "disk";

export type Pause = {
  readonly reason: string;
  readonly sinceMs: number;
  /** When what failed is tried again; null for a pause that somebody must end. */
  readonly retryMs: number | null;
};

export type RoundState = {
  readonly phase: RoundPhase;
  /** While there is any, no lease is granted; what was leased is still taken in, and a round that it completes committed. */
  readonly paused: ReadonlyMap<PauseCause, Pause>;
  readonly version: Version;
  readonly origin: number;
  readonly startedMs: number;
  readonly train: Pool | null;
  readonly evaluation: Pool | null;
  readonly leases: ReadonlyMap<LeaseId, LeaseRecord>;
  /** What became of the training leases of this round. */
  readonly account: OpenAccount;
  /** How large contributions were in the last committed rounds, oldest first. */
  readonly references: readonly NormReference[];
  /** Contributions of this round that were refused for their norm, and whose units nobody has been believed for yet. */
  readonly outliers: readonly Outlier[];
  /** The largest norm above the limit on which two workers agree in this round; null while there is none. */
  readonly agreed: NormReference | null;
  /** Contributions on their way into the merge, by their id. */
  readonly merging: ReadonlyMap<number, UnitResult>;
  readonly workers: ReadonlyMap<WorkerId, WorkerRecord>;
  readonly nextLease: LeaseId;
  /** The newest version whose evaluation is complete; −1 before the first. */
  readonly evaluated: number;
  readonly skippedInARow: number;
  readonly counts: Readonly<Record<RoundCount, number>>;
};

export type Outlier = {
  readonly worker: WorkerId;
  readonly firstUnit: number;
  readonly units: number;
  readonly tokens: number;
  readonly perToken: number;
};

export type RoundCount = "clipped" | "confirmed" | "expired" | "refused" | "speculative" | "skipped" | "returned";

export type ResultEvent = {
  readonly worker: WorkerId;
  /** Names the payload that run.ts holds; unique. */
  readonly id: number;
  readonly kind: LeaseKind;
  readonly lease: LeaseId;
  readonly base: Version;
  readonly firstUnit: number;
  readonly units: number;
  readonly tokens: number;
  readonly lossSum: number;
  readonly computeMs: number;
};

export type MergeResult = {
  /** ‖Σ gradient‖ before any clipping; 0 when it was not looked at. */
  readonly norm: number;
  readonly refusal: { readonly code: RefusalCode; readonly message: string } | null;
};

export type RoundEvent =
  | { readonly type: "started" }
  /** `onTrial`: no leases until it is `admitted`. */
  | { readonly type: "joined"; readonly worker: WorkerId; readonly onTrial?: boolean }
  | { readonly type: "admitted"; readonly worker: WorkerId }
  /** It computes wrong numbers: no leases until it is ready again, with another engine, and admitted. */
  | { readonly type: "rejected"; readonly worker: WorkerId }
  | { readonly type: "ready"; readonly worker: WorkerId; readonly unitMs: number }
  /** Its θ is not the published one: no leases until it is ready again. */
  | { readonly type: "unready"; readonly worker: WorkerId }
  | { readonly type: "pulled"; readonly worker: WorkerId }
  | { readonly type: "left"; readonly worker: WorkerId }
  | { readonly type: "released"; readonly worker: WorkerId; readonly lease: LeaseId }
  | ({ readonly type: "returned" } & ResultEvent)
  /** The merge took the contribution in, or refused its content. */
  | ({ readonly type: "merged"; readonly id: number } & MergeResult)
  /** How large the first unit is at θ_0: for the first round, which has no rounds before it. */
  | { readonly type: "reference"; readonly reference: NormReference }
  | { readonly type: "committed"; readonly applied: boolean }
  | { readonly type: "paused"; readonly cause: PauseCause; readonly reason: string }
  | { readonly type: "resumed"; readonly cause: PauseCause }
  | { readonly type: "tick" };

export type RoundEffect =
  | { readonly type: "grant"; readonly worker: WorkerId; readonly lease: Lease }
  | { readonly type: "waiting"; readonly worker: WorkerId; readonly reason: string }
  | { readonly type: "merge"; readonly id: number; readonly firstUnit: number; readonly units: number; readonly bounds: NormBounds } // prettier-ignore
  | { readonly type: "discard"; readonly id: number }
  | { readonly type: "refuse"; readonly worker: WorkerId; readonly code: RefusalCode; readonly message: string; readonly accept?: Acceptable } // prettier-ignore
  | { readonly type: "evaluated"; readonly version: Version; readonly lossSum: number; readonly tokens: number; readonly samples: number } // prettier-ignore
  | { readonly type: "commit"; readonly version: Version; readonly origin: number; readonly tokens: number; readonly lossSum: number; readonly account: LeaseAccount } // prettier-ignore
  /** Time to try again what the full disk refused. */
  | { readonly type: "retry" }
  | { readonly type: "finish" }
  | { readonly type: "fail"; readonly reason: string };

export type RoundStep = {
  readonly state: RoundState;
  readonly effects: readonly RoundEffect[];
  readonly reason: string;
};

export function initialRound({
  version,
  origin,
  evaluated,
  references = [],
}: {
  version: Version;
  origin: number;
  evaluated: number;
  references?: readonly NormReference[];
}): RoundState {
  return {
    phase: "working",
    paused: new Map(),
    version,
    origin,
    startedMs: 0,
    train: null,
    evaluation: null,
    leases: new Map(),
    account: emptyAccount,
    references,
    outliers: [],
    agreed: null,
    merging: new Map(),
    workers: new Map(),
    nextLease: 1,
    evaluated,
    skippedInARow: 0,
    counts: { clipped: 0, confirmed: 0, expired: 0, refused: 0, speculative: 0, skipped: 0, returned: 0 },
  };
}

/** The state while one event is worked on: its own maps and pools, so that the state before stays as it was. */
export type Draft = {
  -readonly [K in keyof RoundState]: RoundState[K] extends ReadonlyMap<infer Key, infer Value>
    ? Map<Key, Value>
    : RoundState[K] extends Readonly<Record<RoundCount, number>>
      ? Record<RoundCount, number>
      : RoundState[K];
};

export function draftOf(state: RoundState): Draft {
  return {
    ...state,
    paused: new Map(state.paused),
    leases: new Map(state.leases),
    merging: new Map(state.merging),
    workers: new Map(state.workers),
    counts: { ...state.counts },
  };
}

export function newWorker(): WorkerRecord {
  return {
    ready: false,
    onTrial: false,
    version: -1,
    pulls: false,
    sampleMs: null,
    busySinceMs: 0,
    probedMs: -Infinity,
    isNew: false,
    tokens: 0,
    refused: 0,
    strikes: 0,
    suspendedUntilMs: 0,
    waitingReason: "",
  };
}

export function update(draft: Draft, id: WorkerId, change: Partial<WorkerRecord>): void {
  const worker = draft.workers.get(id);
  if (worker !== undefined) draft.workers.set(id, { ...worker, ...change });
}
