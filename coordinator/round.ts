/**
 * @file Who works on what and when a round ends, as a pure reducer. A round is a fixed interval of samples [I1] cut into
 * units; each unit is free, leased, merging or done, and returns to free when its worker cannot deliver [I2]. After every
 * event the same `settle` asks what the facts now allow, so that no departure, expiry or refusal can leave a round hanging.
 */
import type { Lease, LeaseId, LeaseKind, RefusalCode, Version, WorkerId } from "../shared/wire/protocol.ts";
import { leaseUnits } from "./lease.ts";

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
  /** No lease expires sooner: a short pause of the machine is not a failure. */
  readonly minLeaseMs: number;
  /** A worker that is too slow for the rounds is tried again this often: its speed may have changed. */
  readonly probeEveryMs: number;
};

export type UnitResult = {
  readonly worker: WorkerId;
  readonly firstUnit: number;
  readonly units: number;
  readonly tokens: number;
  readonly lossSum: number;
  /** Time inside the worker's engine. */
  readonly computeMs: number;
};

/** The units of one kind of work on one version. */
export type Pool = {
  readonly kind: LeaseKind;
  readonly origin: number;
  readonly samples: number;
  readonly unit: number;
  /** State of each unit: {@link FREE}, {@link LEASED}, {@link MERGING} or {@link DONE}. */
  readonly status: Uint8Array;
  readonly doneUnits: number;
  readonly results: readonly UnitResult[];
};

export type LeaseRecord = {
  readonly worker: WorkerId;
  readonly kind: LeaseKind;
  readonly firstUnit: number;
  readonly units: number;
  /** Units of this lease that were returned, in whatever way. */
  readonly returned: number;
  readonly grantedMs: number;
  readonly deadlineMs: number;
  readonly expired: boolean;
};

export type WorkerRecord = {
  readonly ready: boolean;
  readonly version: Version;
  readonly pulls: boolean;
  /** Measured time of one training sample, ms; null before `ready`. */
  readonly sampleMs: number | null;
  /** When the unit in work was begun, as far as the coordinator can know. */
  readonly busySinceMs: number;
  readonly probedMs: number;
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
  /** Contributions on their way into the merge, by their id. */
  readonly merging: ReadonlyMap<number, UnitResult>;
  readonly workers: ReadonlyMap<WorkerId, WorkerRecord>;
  readonly nextLease: LeaseId;
  /** The newest version whose evaluation is complete; −1 before the first. */
  readonly evaluated: number;
  readonly skippedInARow: number;
  readonly counts: Readonly<Record<RoundCount, number>>;
};

export type RoundCount = "expired" | "refused" | "speculative" | "skipped" | "returned";

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

export type RoundEvent =
  | { readonly type: "started" }
  | { readonly type: "joined"; readonly worker: WorkerId }
  | { readonly type: "ready"; readonly worker: WorkerId; readonly unitMs: number }
  /** Its θ is not the published one: no leases until it is ready again. */
  | { readonly type: "unready"; readonly worker: WorkerId }
  | { readonly type: "pulled"; readonly worker: WorkerId }
  | { readonly type: "left"; readonly worker: WorkerId }
  | { readonly type: "released"; readonly worker: WorkerId; readonly lease: LeaseId }
  | ({ readonly type: "returned" } & ResultEvent)
  /** The merge took the contribution in, or refused its content. */
  | { readonly type: "merged"; readonly id: number; readonly refusal: { readonly code: RefusalCode; readonly message: string } | null } // prettier-ignore
  | { readonly type: "committed"; readonly applied: boolean }
  | { readonly type: "paused"; readonly cause: PauseCause; readonly reason: string }
  | { readonly type: "resumed"; readonly cause: PauseCause }
  | { readonly type: "tick" };

export type RoundEffect =
  | { readonly type: "grant"; readonly worker: WorkerId; readonly lease: Lease }
  | { readonly type: "waiting"; readonly worker: WorkerId; readonly reason: string }
  | { readonly type: "merge"; readonly id: number; readonly firstUnit: number; readonly units: number }
  | { readonly type: "discard"; readonly id: number }
  | { readonly type: "refuse"; readonly worker: WorkerId; readonly code: RefusalCode; readonly message: string; readonly accept?: { readonly version: Version } } // prettier-ignore
  | { readonly type: "evaluated"; readonly version: Version; readonly lossSum: number; readonly tokens: number; readonly samples: number } // prettier-ignore
  | { readonly type: "commit"; readonly version: Version; readonly origin: number; readonly tokens: number; readonly lossSum: number } // prettier-ignore
  /** Time to try again what the full disk refused. */
  | { readonly type: "retry" }
  | { readonly type: "finish" }
  | { readonly type: "fail"; readonly reason: string };

export type RoundStep = {
  readonly state: RoundState;
  readonly effects: readonly RoundEffect[];
  readonly reason: string;
};

export const FREE = 0;
export const LEASED = 1;
export const MERGING = 2;
export const DONE = 3;

/** Weight of the newest measurement in a worker's speed. */
const SPEED_EMA = 0.3;

/** A lease may take this many times its expected time. */
const LEASE_SLACK = 5;

/** An idle worker copies a unit when its owner is expected to need this many times what the copy takes. */
const SPECULATION_FACTOR = 1.5;

/** Forward alone against forward and backward. */
const EVALUATION_COST = 1 / 3;

/** One computing, one waiting behind it: enough to hide the network, little enough to take back. */
const MAX_LEASES_PER_WORKER = 2;

const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;

/** What a full disk refused is tried again this often: soon enough for who has just made room, and cheap when not. */
export const DISK_RETRY_MS = 2000;

/** Merged gradients that are not finite, one after the other, mean that the run has diverged. */
const MAX_SKIPS_IN_A_ROW = 5;

export function initialRound({
  version,
  origin,
  evaluated,
}: {
  version: Version;
  origin: number;
  evaluated: number;
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
    merging: new Map(),
    workers: new Map(),
    nextLease: 1,
    evaluated,
    skippedInARow: 0,
    counts: { expired: 0, refused: 0, speculative: 0, skipped: 0, returned: 0 },
  };
}

export function roundStep(state: RoundState, event: RoundEvent, config: RoundConfig, nowMs: number): RoundStep {
  const draft = draftOf(state);
  const effects: RoundEffect[] = [];
  apply(draft, event, config, nowMs, effects);
  const reason = settle(draft, config, nowMs, effects);
  return { state: draft, effects, reason };
}

/** The state while one event is worked on: its own maps and pools, so that the state before stays as it was. */
type Draft = {
  -readonly [K in keyof RoundState]: RoundState[K] extends ReadonlyMap<infer Key, infer Value>
    ? Map<Key, Value>
    : RoundState[K] extends Readonly<Record<RoundCount, number>>
      ? Record<RoundCount, number>
      : RoundState[K];
};

function draftOf(state: RoundState): Draft {
  return {
    ...state,
    paused: new Map(state.paused),
    leases: new Map(state.leases),
    merging: new Map(state.merging),
    workers: new Map(state.workers),
    counts: { ...state.counts },
  };
}

function apply(draft: Draft, event: RoundEvent, config: RoundConfig, nowMs: number, effects: RoundEffect[]): void {
  switch (event.type) {
    case "started":
      openRound(draft, config, nowMs);
      return;
    case "joined":
      draft.workers.set(event.worker, newWorker());
      return;
    case "ready": {
      giveBack(draft, event.worker);
      const worker = draft.workers.get(event.worker) ?? newWorker();
      const sampleMs = Math.max(0.01, event.unitMs) / config.unit;
      draft.workers.set(event.worker, { ...worker, ready: true, version: draft.version, pulls: false, sampleMs });
      return;
    }
    case "unready":
      giveBack(draft, event.worker);
      update(draft, event.worker, { ready: false, pulls: false });
      return;
    case "pulled":
      update(draft, event.worker, { pulls: true });
      return;
    case "left":
      giveBack(draft, event.worker);
      draft.workers.delete(event.worker);
      return;
    case "released": {
      const lease = draft.leases.get(event.lease);
      if (lease?.worker === event.worker) closeLease(draft, event.lease, lease);
      return;
    }
    case "returned":
      onReturned(draft, event, config, nowMs, effects);
      return;
    case "merged":
      onMerged(draft, event, nowMs, effects);
      return;
    case "committed":
      if (event.applied) {
        draft.version += 1;
        draft.origin += config.batch;
        draft.skippedInARow = 0;
        for (const [id, worker] of draft.workers) {
          if (worker.ready) draft.workers.set(id, { ...worker, version: draft.version });
        }
      } else {
        draft.skippedInARow += 1;
        draft.counts.skipped += 1;
      }
      openRound(draft, config, nowMs);
      return;
    case "paused": {
      const since = draft.paused.get(event.cause);
      const retryMs = since?.retryMs ?? (event.cause === "disk" ? nowMs + DISK_RETRY_MS : null);
      draft.paused.set(event.cause, { reason: event.reason, sinceMs: since?.sinceMs ?? nowMs, retryMs });
      return;
    }
    case "resumed":
      draft.paused.delete(event.cause);
      return;
    case "tick":
      return;
    default:
      event satisfies never;
  }
}

/** What the facts now allow. Returns the state of the run in words. */
function settle(draft: Draft, config: RoundConfig, nowMs: number, effects: RoundEffect[]): string {
  if (draft.phase === "finished") return "the run is finished";
  if (draft.phase === "failed") return "the run has diverged";
  retry(draft, nowMs, effects);
  const paused = pauseReason(draft.paused);
  if (draft.phase === "committing") {
    if (paused !== null) holdPulls(draft, paused, effects);
    return paused ?? `committing version ${draft.version + 1}`;
  }
  expire(draft, nowMs);
  if (draft.evaluation !== null && draft.evaluation.doneUnits === draft.evaluation.status.length) {
    const { results, samples } = draft.evaluation;
    effects.push({ type: "evaluated", version: draft.version, ...totals(results), samples });
    draft.evaluation = null;
    draft.evaluated = draft.version;
  }
  if (draft.train === null && draft.evaluation === null && draft.startedMs > 0) {
    draft.phase = "finished";
    draft.leases.clear();
    effects.push({ type: "finish" });
    return "the run is finished";
  }
  if (draft.skippedInARow >= MAX_SKIPS_IN_A_ROW) {
    draft.phase = "failed";
    const reason = `the merged gradient was not finite ${MAX_SKIPS_IN_A_ROW} times in a row at version ${draft.version}`;
    effects.push({ type: "fail", reason });
    return reason;
  }
  const { train } = draft;
  if (draft.evaluation === null && train !== null && train.doneUnits === train.status.length) {
    draft.phase = "committing";
    draft.leases.clear();
    effects.push({ type: "commit", version: draft.version, origin: train.origin, ...totals(train.results) });
    return `committing version ${draft.version + 1}`;
  }
  if (paused !== null) {
    holdPulls(draft, paused, effects);
    return paused;
  }
  grantLeases(draft, config, nowMs, effects);
  return describe(draft);
}

/** Why the run is paused, in words; null while it is not. */
function pauseReason(paused: RoundState["paused"]): string | null {
  if (paused.size === 0) return null;
  const reasons = [...paused].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { reason }]) => reason);
  return `paused: ${reasons.join("; ")}`;
}

function retry(draft: Draft, nowMs: number, effects: RoundEffect[]): void {
  for (const [cause, pause] of draft.paused) {
    if (pause.retryMs === null || nowMs < pause.retryMs) continue;
    draft.paused.set(cause, { ...pause, retryMs: nowMs + DISK_RETRY_MS });
    effects.push({ type: "retry" });
  }
}

/** A worker that asks for work while there is none to be had is told why. */
function holdPulls(draft: Draft, reason: string, effects: RoundEffect[]): void {
  const pulling = [...draft.workers].filter(([, { ready, pulls }]) => ready && pulls).map(([id]) => id);
  for (const id of pulling.sort((a, b) => (a < b ? -1 : 1))) wait(draft, id, reason, effects);
}

function openRound(draft: Draft, config: RoundConfig, nowMs: number): void {
  draft.phase = "working";
  draft.startedMs = Math.max(1, nowMs);
  draft.leases.clear();
  const { version } = draft;
  const last = version >= config.steps;
  draft.train = last ? null : newPool("train", draft.origin, config.batch, config.unit);
  const due = last || (config.evaluateEvery > 0 && version % config.evaluateEvery === 0);
  const samples = last ? config.finalEvaluationSamples : config.evaluationSamples;
  const evaluates = due && samples > 0 && draft.evaluated < version;
  draft.evaluation = evaluates ? newPool("evaluate", 0, samples, config.evaluationUnit) : null;
}

function onReturned(
  draft: Draft,
  event: ResultEvent,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): void {
  const refuse = (code: RefusalCode, message: string): void => {
    effects.push({ type: "discard", id: event.id });
    effects.push({ type: "refuse", worker: event.worker, code, message, accept: { version: draft.version } });
    draft.counts.refused += 1;
  };
  if (event.base !== draft.version || draft.phase !== "working") {
    refuse("stale-version", `result for version ${event.base}, this run is at ${draft.version}`);
    return;
  }
  const lease = draft.leases.get(event.lease);
  if (lease === undefined || lease.worker !== event.worker || lease.kind !== event.kind) {
    refuse("unknown-lease", `lease ${event.lease} is not this worker's, or is returned already`);
    return;
  }
  const pool = event.kind === "train" ? draft.train : draft.evaluation;
  const end = event.firstUnit + event.units;
  if (pool === null || event.firstUnit < lease.firstUnit || end > lease.firstUnit + lease.units) {
    refuse("unknown-lease", `units ${event.firstUnit}–${end - 1} are not part of lease ${event.lease}`);
    return;
  }
  if (event.kind === "train" && config.strict && event.units !== 1) {
    refuse("unknown-lease", `this run is strict: one unit a contribution, not ${event.units}`);
    return;
  }
  const tokens = samplesOf(pool, event.firstUnit, event.units) * config.tokensPerSample;
  if (event.tokens !== tokens || !Number.isFinite(event.lossSum)) {
    closeLease(draft, event.lease, lease);
    strike(draft, event.worker, nowMs);
    if (event.tokens !== tokens) refuse("wrong-tokens", `${event.tokens} tokens for units that have ${tokens}`);
    else refuse("not-finite", "the loss is not finite");
    return;
  }
  measure(draft, event, pool, nowMs);
  draft.leases.set(event.lease, { ...lease, returned: lease.returned + event.units });
  const taken = pool.status.subarray(event.firstUnit, end).some((status) => status === MERGING || status === DONE);
  if (taken) {
    refuse("already-done", `units ${event.firstUnit}–${end - 1} were returned by somebody else first`);
    return;
  }
  const result = {
    worker: event.worker,
    firstUnit: event.firstUnit,
    units: event.units,
    tokens,
    lossSum: event.lossSum,
    computeMs: event.computeMs,
  };
  if (event.kind === "evaluate") {
    draft.evaluation = finishUnits(pool, result);
    return;
  }
  draft.train = withStatus(pool, event.firstUnit, event.units, MERGING);
  draft.merging.set(event.id, result);
  effects.push({ type: "merge", id: event.id, firstUnit: event.firstUnit, units: event.units });
}

function onMerged(
  draft: Draft,
  event: Extract<RoundEvent, { type: "merged" }>,
  nowMs: number,
  effects: RoundEffect[],
): void {
  const result = draft.merging.get(event.id);
  if (result === undefined || draft.train === null) return;
  draft.merging.delete(event.id);
  const id = result.worker;
  const worker = draft.workers.get(id);
  if (event.refusal === null) {
    draft.train = finishUnits(draft.train, result);
    if (worker !== undefined) draft.workers.set(id, { ...worker, tokens: worker.tokens + result.tokens, strikes: 0 });
    return;
  }
  draft.train = withStatus(draft.train, result.firstUnit, result.units, FREE);
  draft.counts.refused += 1;
  strike(draft, id, nowMs);
  effects.push({ type: "refuse", worker: id, ...event.refusal, accept: { version: draft.version } });
}

/** Wrong content: the worker pauses, twice as long each time, so that it cannot keep the round's last unit to itself. */
function strike(draft: Draft, id: WorkerId, nowMs: number): void {
  const worker = draft.workers.get(id);
  if (worker === undefined) return;
  const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(worker.strikes, 16));
  const { refused, strikes } = worker;
  update(draft, id, { refused: refused + 1, strikes: strikes + 1, suspendedUntilMs: nowMs + pauseMs });
}

function grantLeases(draft: Draft, config: RoundConfig, nowMs: number, effects: RoundEffect[]): void {
  // The fastest first: what is left for the slow is then known.
  const pulling = [...draft.workers]
    .filter(
      ([id, worker]) =>
        worker.ready &&
        worker.pulls &&
        worker.version === draft.version &&
        openLeases(draft, id).length < MAX_LEASES_PER_WORKER,
    ) // prettier-ignore
    .sort(([a, { sampleMs: x }], [b, { sampleMs: y }]) => (x ?? 0) - (y ?? 0) || (a < b ? -1 : 1));
  let rate = 0;
  for (const worker of draft.workers.values()) if (worker.ready) rate += 1 / (worker.sampleMs ?? Infinity);
  for (const [id, worker] of pulling) {
    const othersRate = Math.max(0, rate - 1 / (worker.sampleMs ?? Infinity));
    if (nowMs < worker.suspendedUntilMs) {
      wait(draft, id, `paused after ${worker.strikes} refused contributions`, effects);
      continue;
    }
    const reason = grantOne(draft, id, othersRate < 1e-12 ? 0 : othersRate, config, nowMs, effects);
    if (reason !== null) wait(draft, id, reason, effects);
  }
}

/** Tells a worker why it has no lease, once per reason. */
function wait(draft: Draft, id: WorkerId, reason: string, effects: RoundEffect[]): void {
  if (draft.workers.get(id)?.waitingReason === reason) return;
  update(draft, id, { waitingReason: reason });
  effects.push({ type: "waiting", worker: id, reason });
}

/** Grants one lease, or says why not. Training first: an evaluation is small and fills the tail of its round. */
function grantOne(
  draft: Draft,
  id: WorkerId,
  othersRate: number,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): string | null {
  let reason = "every unit of this round is handed out";
  for (const pool of [draft.train, draft.evaluation]) {
    if (pool === null) continue;
    const worker = draft.workers.get(id) ?? newWorker();
    const unitSampleMs = pool.unit * (pool.kind === "train" ? 1 : EVALUATION_COST);
    const unitMs = (worker.sampleMs ?? 1) * unitSampleMs;
    const free = countFree(pool);
    // A second lease only while nobody else would go without a first one.
    if (free < draft.workers.size && openLeases(draft, id).length > 0) continue;
    const folds = !config.strict && pool.kind === "train";
    const answer = leaseUnits({
      free,
      total: pool.status.length,
      unitMs,
      othersRate: othersRate / unitSampleMs,
      othersUnitMs: fastestOther(draft, id) * unitSampleMs,
      underWay: pool.status.includes(LEASED),
      folds,
    });
    let units = answer.units;
    if (units === 0 && free > 0) {
      reason = "reason" in answer ? answer.reason : reason;
      if (nowMs - worker.probedMs < config.probeEveryMs) continue;
      update(draft, id, { probedMs: nowMs });
      units = 1;
    }
    if (units > 0) {
      const firstUnit = pool.status.indexOf(FREE);
      const run = freeRun(pool, firstUnit, units);
      grant(draft, id, pool, firstUnit, run, unitMs, config, nowMs, effects);
      return null;
    }
    if (free === 0 && openLeases(draft, id).length === 0) {
      const copy = speculate(draft, id, pool, unitMs, config, nowMs);
      if (copy !== null) {
        draft.counts.speculative += 1;
        grant(draft, id, pool, copy.firstUnit, copy.units, unitMs, config, nowMs, effects);
        return null;
      }
    }
  }
  return reason;
}

/** Time of one training sample on the fastest other worker that may get leases. */
function fastestOther(draft: Draft, id: WorkerId): number {
  let fastest = Infinity;
  for (const [other, { ready, sampleMs }] of draft.workers) {
    if (other !== id && ready) fastest = Math.min(fastest, sampleMs ?? Infinity);
  }
  return fastest;
}

function grant(
  draft: Draft,
  id: WorkerId,
  pool: Pool,
  firstUnit: number,
  units: number,
  unitMs: number,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): void {
  const lease = draft.nextLease;
  draft.nextLease += 1;
  const ahead = openLeases(draft, id);
  const queuedUnits = ahead.reduce((sum, { units, returned }) => sum + units - returned, 0);
  const leaseMs = Math.max(config.minLeaseMs, LEASE_SLACK * unitMs * (units + queuedUnits));
  draft.leases.set(lease, {
    worker: id,
    kind: pool.kind,
    firstUnit,
    units,
    returned: 0,
    grantedMs: nowMs,
    deadlineMs: nowMs + leaseMs,
    expired: false,
  });
  const status = withStatus(pool, firstUnit, units, LEASED);
  if (pool.kind === "train") draft.train = status;
  else draft.evaluation = status;
  const worker = draft.workers.get(id) ?? newWorker();
  const busySinceMs = ahead.length > 0 ? worker.busySinceMs : nowMs;
  draft.workers.set(id, { ...worker, pulls: false, busySinceMs, waitingReason: "" });
  const { kind, origin, samples } = pool;
  effects.push({
    type: "grant",
    worker: id,
    lease: { lease, kind, base: draft.version, origin, samples, firstUnit, units, deadlineMs: leaseMs },
  });
}

/** Units that an idle worker should compute a second time, because their owner seems late; null when nobody is. */
function speculate(
  draft: Draft,
  id: WorkerId,
  pool: Pool,
  unitMs: number,
  config: RoundConfig,
  nowMs: number,
): { firstUnit: number; units: number } | null {
  const copied = new Set<number>();
  const owners: { lease: LeaseRecord; remainingMs: number }[] = [];
  const seen = new Set<number>();
  for (const lease of draft.leases.values()) {
    if (lease.kind !== pool.kind || lease.expired) continue;
    for (let unit = lease.firstUnit; unit < lease.firstUnit + lease.units; unit++) {
      if (seen.has(unit)) copied.add(unit);
      seen.add(unit);
    }
    if (lease.worker === id) continue;
    const owner = draft.workers.get(lease.worker);
    const ownerUnitMs = (owner?.sampleMs ?? 1) * pool.unit * (pool.kind === "train" ? 1 : EVALUATION_COST);
    const elapsedMs = nowMs - Math.max(lease.grantedMs, owner?.busySinceMs ?? 0);
    const expectedMs = ownerUnitMs * (lease.units - lease.returned) - elapsedMs;
    // Who is overdue is believed to stay so about as long again.
    owners.push({ lease, remainingMs: Math.max(expectedMs, elapsedMs - ownerUnitMs) });
  }
  owners.sort((a, b) => b.remainingMs - a.remainingMs || a.lease.firstUnit - b.lease.firstUnit);
  for (const { lease, remainingMs } of owners) {
    const end = lease.firstUnit + lease.units;
    if (!config.strict && pool.kind === "train") {
      // A folded contribution is whole or nothing: so is its copy.
      const whole = [...range(lease.firstUnit, end)].every((unit) => pool.status[unit] === LEASED && !copied.has(unit));
      if (whole && remainingMs > SPECULATION_FACTOR * unitMs * lease.units) {
        return { firstUnit: lease.firstUnit, units: lease.units };
      }
      continue;
    }
    if (remainingMs <= SPECULATION_FACTOR * unitMs) return null;
    // From the back: the owner works from the front.
    for (let unit = end - 1; unit >= lease.firstUnit; unit--) {
      if (pool.status[unit] === LEASED && !copied.has(unit)) return { firstUnit: unit, units: 1 };
    }
  }
  return null;
}

function expire(draft: Draft, nowMs: number): void {
  for (const [id, lease] of draft.leases) {
    if (lease.expired || lease.returned >= lease.units || nowMs < lease.deadlineMs) continue;
    draft.leases.set(id, { ...lease, expired: true });
    returnUnits(draft, lease, id);
    draft.counts.expired += 1;
    const worker = draft.workers.get(lease.worker);
    if (worker === undefined) continue;
    // It is at least this slow; the next lease is sized for it.
    const pool = lease.kind === "train" ? draft.train : null;
    const perSample = pool === null ? 0 : (nowMs - lease.grantedMs) / (lease.units * pool.unit);
    draft.workers.set(lease.worker, { ...worker, sampleMs: Math.max(worker.sampleMs ?? 0, perSample) });
  }
}

/** Exponential average of the time between a worker's results, as the coordinator saw it. */
function measure(draft: Draft, event: ResultEvent, pool: Pool, nowMs: number): void {
  const worker = draft.workers.get(event.worker);
  if (worker === undefined) return;
  const samples = samplesOf(pool, event.firstUnit, event.units) * (event.kind === "train" ? 1 : EVALUATION_COST);
  const sampleMs = Math.max(0.001, (nowMs - worker.busySinceMs) / samples);
  const before = worker.sampleMs ?? sampleMs;
  draft.workers.set(event.worker, {
    ...worker,
    sampleMs: before + SPEED_EMA * (sampleMs - before),
    busySinceMs: nowMs,
  });
}

function giveBack(draft: Draft, worker: WorkerId): void {
  for (const [id, lease] of draft.leases) if (lease.worker === worker) closeLease(draft, id, lease);
}

function closeLease(draft: Draft, id: LeaseId, lease: LeaseRecord): void {
  draft.leases.delete(id);
  if (!lease.expired) returnUnits(draft, lease, id);
}

/** Units of a lease that nobody else holds become free again. */
function returnUnits(draft: Draft, lease: LeaseRecord, id: LeaseId): void {
  const pool = lease.kind === "train" ? draft.train : draft.evaluation;
  if (pool === null) return;
  const status = pool.status.slice();
  for (let unit = lease.firstUnit; unit < lease.firstUnit + lease.units; unit++) {
    if (status[unit] !== LEASED || heldByOther(draft, id, lease.kind, unit)) continue;
    status[unit] = FREE;
    draft.counts.returned += 1;
  }
  if (lease.kind === "train") draft.train = { ...pool, status };
  else draft.evaluation = { ...pool, status };
}

function heldByOther(draft: Draft, id: LeaseId, kind: LeaseKind, unit: number): boolean {
  for (const [other, lease] of draft.leases) {
    if (other === id || lease.expired || lease.kind !== kind) continue;
    if (unit >= lease.firstUnit && unit < lease.firstUnit + lease.units) return true;
  }
  return false;
}

function openLeases(draft: Draft, worker: WorkerId): LeaseRecord[] {
  return [...draft.leases.values()].filter((lease) => lease.worker === worker && !lease.expired && lease.returned < lease.units); // prettier-ignore
}

function describe(draft: Draft): string {
  const pools = [draft.train, draft.evaluation].filter((pool) => pool !== null);
  const [ready, all] = [[...draft.workers.values()].filter((worker) => worker.ready).length, draft.workers.size];
  if (all === 0) return "waiting for the first worker";
  if (ready === 0) return `waiting for ${all} worker${all === 1 ? "" : "s"} to load the model`;
  const work = pools.map(({ kind, status, doneUnits }) => `${doneUnits} of ${status.length} units ${kind === "train" ? "trained" : "evaluated"}`); // prettier-ignore
  return `round ${draft.version + 1}: ${work.join(", ")} by ${ready} worker${ready === 1 ? "" : "s"}`;
}

function newPool(kind: LeaseKind, origin: number, samples: number, unit: number): Pool {
  return { kind, origin, samples, unit, status: new Uint8Array(Math.ceil(samples / unit)), doneUnits: 0, results: [] };
}

function newWorker(): WorkerRecord {
  return {
    ready: false,
    version: -1,
    pulls: false,
    sampleMs: null,
    busySinceMs: 0,
    probedMs: -Infinity,
    tokens: 0,
    refused: 0,
    strikes: 0,
    suspendedUntilMs: 0,
    waitingReason: "",
  };
}

function update(draft: Draft, id: WorkerId, change: Partial<WorkerRecord>): void {
  const worker = draft.workers.get(id);
  if (worker !== undefined) draft.workers.set(id, { ...worker, ...change });
}

function withStatus(pool: Pool, firstUnit: number, units: number, value: number): Pool {
  const status = pool.status.slice();
  status.fill(value, firstUnit, firstUnit + units);
  return { ...pool, status };
}

function finishUnits(pool: Pool, result: UnitResult): Pool {
  const done = withStatus(pool, result.firstUnit, result.units, DONE);
  return { ...done, doneUnits: pool.doneUnits + result.units, results: [...pool.results, result] };
}

function countFree(pool: Pool): number {
  let free = 0;
  for (const status of pool.status) if (status === FREE) free += 1;
  return free;
}

/** Length of the run of free units from `first`, at most `wanted`. */
function freeRun(pool: Pool, first: number, wanted: number): number {
  let units = 1;
  while (units < wanted && pool.status[first + units] === FREE) units += 1;
  return units;
}

function samplesOf(pool: Pool, firstUnit: number, units: number): number {
  return Math.min(pool.samples, (firstUnit + units) * pool.unit) - firstUnit * pool.unit;
}

/** Summed in unit order: float addition is not associative. */
function totals(results: readonly UnitResult[]): { tokens: number; lossSum: number } {
  const sorted = [...results].sort((a, b) => a.firstUnit - b.firstUnit);
  return sorted.reduce((sum, { tokens, lossSum }) => ({ tokens: sum.tokens + tokens, lossSum: sum.lossSum + lossSum }), { tokens: 0, lossSum: 0 }); // prettier-ignore
}

function* range(from: number, to: number): Iterable<number> {
  for (let value = from; value < to; value++) yield value;
}
