/**
 * @file Who works on what and when a round ends, as a pure reducer. A round is a fixed interval of samples [I1] cut into
 * units; each unit is free, leased, merging or done, and returns to free when its worker cannot deliver [I2]. After every
 * event the same `settle` asks what the facts now allow, so that no departure, expiry or refusal can leave a round hanging.
 */
import type { RefusalCode, WorkerId } from "../../shared/wire/protocol.ts";
import { grantLeases, isAlone, isAnybodyProven, outliersAmong, wait } from "./grant.ts";
import { closeAccount, emptyAccount, skipRound } from "./leaseAccount.ts";
import { acceptable, closeLease, endLeases, expire, giveBack, measure, returnUnits } from "./leases.ts";
import {
  REFERENCE_ROUNDS,
  describeNorm,
  medianReference,
  normLimit,
  ordinaryNorm,
  referenceOf,
  risenReference,
} from "./normGuard.ts";
import type { NormBounds } from "./normGuard.ts";
import { DONE, FREE, MERGING, finishUnits, newPool, samplesOf, totals, withStatus } from "./pool.ts";
import type { UnitResult } from "./pool.ts";
import { draftOf, newWorker, update } from "./roundState.ts";
import type {
  Draft,
  Outlier,
  ResultEvent,
  RoundConfig,
  RoundEffect,
  RoundEvent,
  RoundState,
  RoundStep,
} from "./roundState.ts";

/** Bound on what a round remembers of refused norms; the oldest are forgotten. */
const MAX_OUTLIERS = 256;

const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;

/** What a full disk refused is tried again this often: soon enough for who has just made room, and cheap when not. */
export const DISK_RETRY_MS = 2000;

/** Merged gradients that are not finite, one after the other, mean that the run has diverged. */
const MAX_SKIPS_IN_A_ROW = 5;

export function roundStep(state: RoundState, event: RoundEvent, config: RoundConfig, nowMs: number): RoundStep {
  const draft = draftOf(state);
  const effects: RoundEffect[] = [];
  apply(draft, event, config, nowMs, effects);
  const reason = settle(draft, config, nowMs, effects);
  return { state: draft, effects, reason };
}

function apply(draft: Draft, event: RoundEvent, config: RoundConfig, nowMs: number, effects: RoundEffect[]): void {
  switch (event.type) {
    case "started":
      openRound(draft, config, nowMs);
      return;
    case "joined":
      draft.workers.set(event.worker, { ...newWorker(), onTrial: event.onTrial ?? false });
      return;
    case "rejected":
      giveBack(draft, event.worker, "reset");
      update(draft, event.worker, { onTrial: true, ready: false, pulls: false });
      return;
    case "admitted":
      update(draft, event.worker, { onTrial: false });
      return;
    case "ready": {
      giveBack(draft, event.worker, "reset");
      const worker = draft.workers.get(event.worker) ?? newWorker();
      const sampleMs = Math.max(0.01, event.unitMs) / config.unit;
      // A pull that came before stays open: its worker will not ask again.
      draft.workers.set(event.worker, {
        ...worker,
        ready: true,
        version: draft.version,
        sampleMs,
        busySinceMs: nowMs,
        probedMs: nowMs,
        isNew: worker.tokens === 0 && isAnybodyProven(draft),
      });
      return;
    }
    case "unready":
      giveBack(draft, event.worker, "reset");
      update(draft, event.worker, { ready: false, pulls: false });
      return;
    case "pulled":
      update(draft, event.worker, { pulls: true });
      return;
    case "left":
      giveBack(draft, event.worker, "left");
      draft.workers.delete(event.worker);
      return;
    case "released": {
      const lease = draft.leases.get(event.lease);
      if (lease?.worker === event.worker) closeLease(draft, event.lease, lease, "released");
      return;
    }
    case "returned":
      onReturned(draft, event, config, nowMs, effects);
      return;
    case "merged":
      onMerged(draft, event, config, nowMs, effects);
      return;
    case "committed":
      if (event.applied) {
        draft.version += 1;
        draft.account = emptyAccount;
        draft.origin += config.batch;
        remember(draft);
        draft.skippedInARow = 0;
        for (const [id, worker] of draft.workers) {
          if (worker.ready) draft.workers.set(id, { ...worker, version: draft.version });
        }
      } else {
        draft.account = skipRound(draft.account);
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
    case "reference":
      if (draft.references.length === 0) draft.references = [event.reference];
      return;
    case "tick":
      return;
    default:
      event satisfies never;
  }
}

/** What the facts now allow. Returns the state of the run in words. */
function settle(draft: Draft, config: RoundConfig, nowMs: number, effects: RoundEffect[]): string {
  if (draft.phase === "failed") return "the run has diverged";
  retry(draft, nowMs, effects);
  const paused = pauseReason(draft.paused);
  if (draft.phase === "finished") return (draft.paused.has("disk") ? paused : null) ?? "the run is finished";
  if (draft.phase === "committing") {
    if (paused !== null) holdPulls(draft, paused, effects);
    return paused ?? `committing version ${draft.version + 1}`;
  }
  expire(draft, config, nowMs);
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
    endLeases(draft);
    const account = closeAccount(draft.account, train.results);
    effects.push({ type: "commit", version: draft.version, origin: train.origin, ...totals(train.results), account });
    return paused ?? `committing version ${draft.version + 1}`;
  }
  if (paused !== null) {
    holdPulls(draft, paused, effects);
    return paused;
  }
  grantLeases(draft, config, nowMs, effects);
  return describe(draft);
}

function openRound(draft: Draft, config: RoundConfig, nowMs: number): void {
  draft.phase = "working";
  draft.startedMs = Math.max(1, nowMs);
  draft.leases.clear();
  draft.outliers = [];
  draft.agreed = null;
  const { version } = draft;
  const last = version >= config.steps;
  draft.train = last ? null : newPool("train", draft.origin, config.batch, config.unit);
  const due = last || (config.evaluateEvery > 0 && version % config.evaluateEvery === 0);
  const samples = last ? config.finalEvaluationSamples : config.evaluationSamples;
  const evaluates = due && samples > 0 && draft.evaluated < version;
  draft.evaluation = evaluates ? newPool("evaluate", 0, samples, config.evaluationUnit) : null;
}

/** The round's part in what the next ones are compared with. */
function remember(draft: Draft): void {
  const reference = referenceOf(draft.train?.results ?? []);
  if (reference !== null) draft.references = [...draft.references, reference].slice(-REFERENCE_ROUNDS);
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
    effects.push({ type: "refuse", worker: event.worker, code, message, accept: acceptable(draft, event.worker) });
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
    closeLease(draft, event.lease, lease, "refused");
    strike(draft, event.worker, nowMs);
    if (event.tokens !== tokens) refuse("wrong-tokens", `${event.tokens} tokens for units that have ${tokens}`);
    else refuse("not-finite", "the loss is not finite");
    return;
  }
  const returnedUnits = new Set(lease.returnedUnits);
  for (let unit = event.firstUnit; unit < end; unit++) returnedUnits.add(unit);
  if (returnedUnits.size !== lease.returned + event.units) {
    // Counted again it would stand for a unit that never comes, and whose lease would then never expire.
    refuse("already-done", `units ${event.firstUnit}–${end - 1} of lease ${event.lease} were sent before`);
    return;
  }
  measure(draft, event, pool, nowMs);
  draft.leases.set(event.lease, { ...lease, returned: returnedUnits.size, returnedUnits });
  const taken = pool.status.subarray(event.firstUnit, end).some((status) => status === MERGING || status === DONE);
  if (taken) {
    // Of a folded result a part may be new: it cannot be told from the rest, so somebody has to compute it again.
    returnUnits(draft, { ...lease, firstUnit: event.firstUnit, units: event.units }, event.lease);
    refuse("already-done", `units ${event.firstUnit}–${end - 1} were returned by somebody else first`);
    return;
  }
  const result = {
    worker: event.worker,
    lease: event.lease,
    firstUnit: event.firstUnit,
    units: event.units,
    tokens,
    lossSum: event.lossSum,
    norm: 0,
    computeMs: event.computeMs,
  };
  if (event.kind === "evaluate") {
    draft.evaluation = finishUnits(pool, result);
    return;
  }
  draft.train = withStatus(pool, event.firstUnit, event.units, MERGING);
  draft.merging.set(event.id, result);
  const bounds = normBounds(draft, result, config, nowMs);
  effects.push({ type: "merge", id: event.id, firstUnit: event.firstUnit, units: event.units, bounds });
}

function onMerged(
  draft: Draft,
  event: Extract<RoundEvent, { type: "merged" }>,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): void {
  const result = draft.merging.get(event.id);
  if (result === undefined || draft.train === null) return;
  draft.merging.delete(event.id);
  const id = result.worker;
  const worker = draft.workers.get(id);
  if (event.refusal === null) {
    const limit = recentLimit(draft, result.tokens, config);
    const clipped = config.guard === "clip" && event.norm > limit;
    const merged = { ...result, norm: clipped ? ordinaryNorm(limit) : event.norm };
    draft.train = finishUnits(draft.train, merged);
    if (clipped) {
      draft.counts.clipped += 1;
      const message = `${describeNorm(event.norm, limit)}: it is scaled down to an ordinary one`;
      effects.push({ type: "refuse", worker: id, code: "norm-clipped", message, accept: acceptable(draft, id) });
    } else if (event.norm > limit) {
      absolve(draft, outliersAmong(draft, result.firstUnit, result.units));
      agree(draft, merged, config);
    }
    const { status } = draft.train;
    draft.outliers = draft.outliers.filter(({ firstUnit, units }) => status.subarray(firstUnit, firstUnit + units).some((unit) => unit !== DONE)); // prettier-ignore
    if (worker !== undefined) {
      const tokens = worker.tokens + result.tokens;
      update(draft, id, { isNew: false, tokens, strikes: clipped ? worker.strikes : 0 });
      // Nobody is asked whether a clipped unit is just odd, so one costs nothing; several in a row are no chance.
      if (clipped) strike(draft, id, nowMs, { spared: 1 });
    }
    return;
  }
  draft.train = withStatus(draft.train, result.firstUnit, result.units, FREE);
  draft.counts.refused += 1;
  const isOutlier = event.refusal.code === "norm-outlier";
  if (isOutlier) {
    const { firstUnit, units, tokens } = result;
    draft.outliers = [...draft.outliers, { worker: id, firstUnit, units, tokens, perToken: event.norm / tokens }].slice(-MAX_OUTLIERS); // prettier-ignore
  }
  // Who is to compute it once more is not made to wait before.
  if (!isOutlier || !isAlone(draft, id, config, nowMs)) strike(draft, id, nowMs);
  effects.push({ type: "refuse", worker: id, ...event.refusal, accept: acceptable(draft, id) });
}

/** What committed rounds allow. */
function recentLimit(draft: Draft, tokens: number, { guard }: RoundConfig): number {
  const reference = guard === "off" ? null : medianReference(draft.references);
  return reference === null ? Infinity : normLimit(reference, tokens);
}

/** The largest norm for which nobody else is asked. */
function limitNow(draft: Draft, tokens: number, config: RoundConfig): number {
  const recent = recentLimit(draft, tokens, config);
  if (draft.agreed === null) return recent;
  return Math.max(recent, normLimit(risenReference(draft.train?.results ?? [], draft.agreed), tokens));
}

function normBounds(draft: Draft, result: UnitResult, config: RoundConfig, nowMs: number): NormBounds {
  const clip = config.guard === "clip";
  // Nobody else to ask: it would be believed when it repeats itself, so it is at once. Where a step has made all gradients
  // large, asking twice would cost a whole round.
  if (!clip && isAlone(draft, result.worker, config, nowMs)) return { limit: Infinity, confirmed: 0, clipTo: null };
  const limit = limitNow(draft, result.tokens, config);
  return {
    limit,
    confirmed: foundByOthers(draft, result) * result.tokens,
    clipTo: clip ? ordinaryNorm(limit) : null,
  };
}

/** The largest norm a token that other workers were refused for among these units; 0 for none. */
function foundByOthers(draft: Draft, { worker, firstUnit, units }: UnitResult): number {
  const others = outliersAmong(draft, firstUnit, units).filter((outlier) => outlier.worker !== worker);
  return Math.max(0, ...others.map(({ perToken }) => perToken));
}

/** A merged norm above the limit: where another worker found it too, the rest of the round is compared with what both found. */
function agree(draft: Draft, merged: UnitResult, config: RoundConfig): void {
  const { norm, tokens } = merged;
  const perToken = Math.min(norm / tokens, foundByOthers(draft, merged));
  if (perToken === 0) return;
  draft.counts.confirmed += 1;
  if (perToken > (draft.agreed?.perToken ?? 0)) draft.agreed = { perToken, tokens };
  const believed = (outlier: Outlier): boolean => outlier.perToken * outlier.tokens <= limitNow(draft, outlier.tokens, config); // prettier-ignore
  absolve(draft, draft.outliers.filter(believed)); // prettier-ignore
  draft.outliers = draft.outliers.filter((outlier) => !believed(outlier));
}

/** What they were refused for was right. */
function absolve(draft: Draft, outliers: readonly Outlier[]): void {
  for (const { worker } of outliers) update(draft, worker, { strikes: 0, suspendedUntilMs: 0 });
}

/** Wrong content: the worker pauses, twice as long each time, so that it cannot keep the round's last unit to itself. */
function strike(draft: Draft, id: WorkerId, nowMs: number, { spared = 0 }: { spared?: number } = {}): void {
  const worker = draft.workers.get(id);
  if (worker === undefined) return;
  const { refused, strikes } = worker;
  const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(strikes - spared, 16));
  const suspendedUntilMs = strikes < spared ? worker.suspendedUntilMs : nowMs + pauseMs;
  update(draft, id, { refused: refused + 1, strikes: strikes + 1, suspendedUntilMs });
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

function describe(draft: Draft): string {
  const pools = [draft.train, draft.evaluation].filter((pool) => pool !== null);
  const [ready, all] = [[...draft.workers.values()].filter((worker) => worker.ready).length, draft.workers.size];
  if (all === 0) return "waiting for the first worker";
  if (ready === 0) return `waiting for ${all} worker${all === 1 ? "" : "s"} to load the model`;
  const work = pools.map(({ kind, status, doneUnits }) => `${doneUnits} of ${status.length} units ${kind === "train" ? "trained" : "evaluated"}`); // prettier-ignore
  return `round ${draft.version + 1}: ${work.join(", ")} by ${ready} worker${ready === 1 ? "" : "s"}`;
}
