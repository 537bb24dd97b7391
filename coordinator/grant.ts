/** @file Who gets which units now: leases for the workers that pull, copies of late units for those that would be idle. */
import type { WorkerId } from "../shared/wire/protocol.ts";
import { EVALUATION_COST, leaseUnits } from "./lease.ts";
import { issue } from "./leaseAccount.ts";
import { openLeases } from "./leases.ts";
import { FREE, LEASED, countFree, freeRun, withStatus } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { newWorker, update } from "./roundState.ts";
import type { Draft, LeaseRecord, RoundConfig, RoundEffect, WorkerRecord } from "./roundState.ts";

/** A lease may take this many times its expected time. */
const LEASE_SLACK = 5;

/** An idle worker copies a unit when its owner is expected to need this many times what the copy takes. */
const SPECULATION_FACTOR = 1.5;

/** One computing, one waiting behind it: enough to hide the network, little enough to take back. */
const MAX_LEASES_PER_WORKER = 2;

export function grantLeases(draft: Draft, config: RoundConfig, nowMs: number, effects: RoundEffect[]): void {
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
  for (const worker of draft.workers.values()) if (mayWork(worker, nowMs)) rate += 1 / (worker.sampleMs ?? Infinity);
  for (const [id, worker] of pulling) {
    if (worker.onTrial) {
      wait(draft, id, "the coordinator has yet to see that this machine computes right", effects);
      continue;
    }
    if (nowMs < worker.suspendedUntilMs) {
      wait(draft, id, `paused after ${worker.strikes} refused contributions`, effects);
      continue;
    }
    const othersRate = Math.max(0, rate - 1 / (worker.sampleMs ?? Infinity));
    const reason = grantOne(draft, id, othersRate < 1e-12 ? 0 : othersRate, config, nowMs, effects);
    if (reason !== null) wait(draft, id, reason, effects);
  }
}

/** Whether it may get leases, and so counts among those who finish the round. */
function mayWork(worker: WorkerRecord, nowMs: number): boolean {
  return worker.ready && !worker.onTrial && nowMs >= worker.suspendedUntilMs;
}

/** Tells a worker why it has no lease, once per reason. */
export function wait(draft: Draft, id: WorkerId, reason: string, effects: RoundEffect[]): void {
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
      othersUnitMs: fastestOther(draft, id, nowMs) * unitSampleMs,
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
function fastestOther(draft: Draft, id: WorkerId, nowMs: number): number {
  let fastest = Infinity;
  for (const [other, worker] of draft.workers) {
    if (other !== id && mayWork(worker, nowMs)) fastest = Math.min(fastest, worker.sampleMs ?? Infinity);
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
  if (pool.kind === "train") draft.account = issue(draft.account, units);
  const ahead = openLeases(draft, id);
  const queuedUnits = ahead.reduce((sum, { units, returned }) => sum + units - returned, 0);
  const leaseMs = Math.max(config.minLeaseMs, LEASE_SLACK * unitMs * (units + queuedUnits));
  draft.leases.set(lease, {
    worker: id,
    kind: pool.kind,
    firstUnit,
    units,
    returned: 0,
    returnedUnits: new Set(),
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

function* range(from: number, to: number): Iterable<number> {
  for (let value = from; value < to; value++) yield value;
}
