/** @file Leases after they are granted: returned, given back, expired; and what they tell of a worker's speed. */
import type { Acceptable, LeaseId, LeaseKind, WorkerId } from "../../shared/wire/protocol.ts";
import { EVALUATION_COST } from "./lease.ts";
import { endLease } from "./leaseAccount.ts";
import type { LeaseEnd } from "./leaseAccount.ts";
import { FREE, LEASED, samplesOf } from "./pool.ts";
import type { Pool, UnitResult } from "./pool.ts";
import type { Draft, LeaseRecord, ResultEvent, RoundConfig } from "./roundState.ts";

/** Weight of the newest measurement in a worker's speed. */
const SPEED_EMA = 0.3;

export function openLeases(draft: Draft, worker: WorkerId): LeaseRecord[] {
  return [...draft.leases.values()].filter((lease) => lease.worker === worker && !lease.expired && lease.returned < lease.units); // prettier-ignore
}

/** Of a lease that expired, too, a result counts while nobody else's came first. */
export function acceptable(draft: Draft, worker: WorkerId): Acceptable {
  for (const [id, lease] of draft.leases) {
    if (lease.worker === worker && lease.returned < lease.units) return { version: draft.version, lease: id };
  }
  return { version: draft.version };
}

export function giveBack(draft: Draft, worker: WorkerId, end: LeaseEnd): void {
  for (const [id, lease] of draft.leases) if (lease.worker === worker) closeLease(draft, id, lease, end);
}

export function closeLease(draft: Draft, id: LeaseId, lease: LeaseRecord, end: LeaseEnd): void {
  draft.leases.delete(id);
  accountFor(draft, id, lease, end);
  if (!lease.expired) returnUnits(draft, lease, id);
}

/** The round is over: whatever was still leased has been superseded. */
export function endLeases(draft: Draft): void {
  for (const [id, lease] of draft.leases) accountFor(draft, id, lease, "superseded");
  draft.leases.clear();
}

function accountFor(draft: Draft, id: LeaseId, lease: LeaseRecord, end: LeaseEnd): void {
  if (lease.kind !== "train") return;
  const mine = (result: UnitResult): boolean => result.lease === id;
  const contributed = (draft.train?.results.some(mine) ?? false) || [...draft.merging.values()].some(mine);
  draft.account = endLease(draft.account, { ...lease, lease: id }, lease.expired ? "expired" : end, contributed);
}

export function expire(draft: Draft, config: RoundConfig, nowMs: number): void {
  for (const [id, lease] of draft.leases) {
    if (lease.expired || lease.returned >= lease.units || nowMs < lease.deadlineMs) continue;
    draft.leases.set(id, { ...lease, expired: true });
    returnUnits(draft, lease, id);
    draft.counts.expired += 1;
    const worker = draft.workers.get(lease.worker);
    if (worker === undefined) continue;
    // It is at least this slow; the next lease is sized for it.
    const pool = lease.kind === "train" ? draft.train : null;
    // A result is due each unit; of a folded lease, one for all.
    const silent = config.strict ? 1 : lease.units;
    const perSample =
      pool === null ? 0 : (nowMs - Math.max(lease.grantedMs, worker.busySinceMs)) / (silent * pool.unit);
    draft.workers.set(lease.worker, { ...worker, sampleMs: Math.max(worker.sampleMs ?? 0, perSample) });
  }
}

/** Exponential average of the time between a worker's results, as the coordinator saw it. */
export function measure(draft: Draft, event: ResultEvent, pool: Pool, nowMs: number): void {
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

/** Units of a lease that nobody else holds become free again. */
export function returnUnits(draft: Draft, lease: LeaseRecord, id: LeaseId): void {
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
    // Who has returned a unit, merged or refused, does not work on it any more.
    if (other === id || lease.expired || lease.kind !== kind || lease.returnedUnits.has(unit)) continue;
    if (unit >= lease.firstUnit && unit < lease.firstUnit + lease.units) return true;
  }
  return false;
}
