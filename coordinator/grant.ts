/** @file Who gets which units now: leases for the workers that pull, copies of late units for those that would be idle. */
import type { WorkerId } from "../shared/wire/protocol.ts";
import { EVALUATION_COST, leaseUnits } from "./lease.ts";
import { issue } from "./leaseAccount.ts";
import { openLeases } from "./leases.ts";
import { DONE, FREE, LEASED, countFree, freeRun, withStatus } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { newWorker, update } from "./roundState.ts";
import type { Draft, Outlier, RoundConfig, RoundEffect, WorkerRecord } from "./roundState.ts";

/** A lease may take this many times its expected time. */
const LEASE_SLACK = 5;

/** An idle worker copies a unit when its owner is expected to need this many times what the copy takes. */
const SPECULATION_FACTOR = 1.5;

/** One computing, one waiting behind it: enough to hide the network, little enough to take back. */
const MAX_LEASES_PER_WORKER = 2;

export function grantLeases(draft: Draft, config: RoundConfig, nowMs: number, effects: RoundEffect[]): void {
  let facts = gather(draft, config, nowMs);
  // The fastest first: what is left for the slow is then known.
  const pulling = [...draft.workers]
    .filter(
      ([id, worker]) =>
        worker.ready &&
        worker.pulls &&
        worker.version === draft.version &&
        (facts.open.get(id) ?? 0) < MAX_LEASES_PER_WORKER,
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
    const reason = grantOne(draft, id, othersRate < 1e-12 ? 0 : othersRate, facts, config, nowMs, effects);
    if (reason === null) facts = gather(draft, config, nowMs);
    else wait(draft, id, reason, effects);
  }
}

/** Whether it may get leases, and so counts among those who finish the round. */
function mayWork(worker: WorkerRecord, nowMs: number): boolean {
  return worker.ready && !worker.onTrial && nowMs >= worker.suspendedUntilMs;
}

/** What the decision about each worker needs of all the others: looked up once, not once per worker that waits. */
type Facts = {
  /** Open leases by worker. */
  readonly open: ReadonlyMap<WorkerId, number>;
  /** The two workers that need the least time for a sample. */
  readonly fastest: readonly { readonly id: WorkerId; readonly sampleMs: number }[];
  readonly late: (pool: Pool) => readonly LateUnits[];
};

/** Units that one worker may take over from another. */
type LateUnits = {
  readonly owner: WorkerId;
  readonly firstUnit: number;
  readonly units: number;
  readonly remainingMs: number;
};

function gather(draft: Draft, config: RoundConfig, nowMs: number): Facts {
  const open = new Map<WorkerId, number>();
  for (const { worker, expired, returned, units } of draft.leases.values()) {
    if (!expired && returned < units) open.set(worker, (open.get(worker) ?? 0) + 1);
  }
  const fastest: { id: WorkerId; sampleMs: number }[] = [];
  for (const [id, worker] of draft.workers) {
    const { sampleMs } = worker;
    if (!mayWork(worker, nowMs) || sampleMs === null) continue;
    if (fastest.length === 2 && sampleMs >= fastest[1]!.sampleMs) continue;
    fastest.push({ id, sampleMs });
    fastest.sort((a, b) => a.sampleMs - b.sampleMs);
    fastest.length = Math.min(2, fastest.length);
  }
  const late = new Map<Pool, readonly LateUnits[]>();
  return {
    open,
    fastest,
    late(pool) {
      const known = late.get(pool) ?? lateUnits(draft, pool, config, nowMs);
      late.set(pool, known);
      return known;
    },
  };
}

/** Whether no other worker may get leases. */
export function isAlone({ workers }: Draft, id: WorkerId, nowMs: number): boolean {
  for (const [other, worker] of workers) if (other !== id && mayWork(worker, nowMs)) return false;
  return true;
}

/** What was refused for its norm among these units. */
export function outliersAmong({ outliers }: Draft, firstUnit: number, units: number): readonly Outlier[] {
  return outliers.filter((other) => firstUnit < other.firstUnit + other.units && other.firstUnit < firstUnit + units);
}

/**
 * The pool as this worker sees it: units that it was refused for their norm are another's to compute, to see who is right.
 * Where there is no other, the same one's.
 */
function openTo(draft: Draft, id: WorkerId, pool: Pool, nowMs: number): Pool {
  const own = draft.outliers.filter(({ worker }) => worker === id);
  if (pool.kind !== "train" || own.length === 0) return pool;
  return isAlone(draft, id, nowMs)
    ? pool
    : own.reduce((open, { firstUnit, units }) => withStatus(open, firstUnit, units, DONE), pool);
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
  facts: Facts,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): string | null {
  const open = facts.open.get(id) ?? 0;
  // Time of one training sample on the fastest other worker that may get leases.
  const fastestOther = facts.fastest.find((other) => other.id !== id)?.sampleMs ?? Infinity;
  let reason = "every unit of this round is handed out";
  for (const whole of [draft.train, draft.evaluation]) {
    if (whole === null) continue;
    const pool = openTo(draft, id, whole, nowMs);
    const worker = draft.workers.get(id) ?? newWorker();
    const unitSampleMs = pool.unit * (pool.kind === "train" ? 1 : EVALUATION_COST);
    const unitMs = (worker.sampleMs ?? 1) * unitSampleMs;
    const free = countFree(pool);
    // A second lease only while nobody else would go without a first one.
    if (free < draft.workers.size && open > 0) continue;
    const folds = !config.strict && pool.kind === "train";
    const answer = leaseUnits({
      free,
      unitMs,
      othersRate: othersRate / unitSampleMs,
      othersUnitMs: fastestOther * unitSampleMs,
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
      grant(draft, id, whole, firstUnit, run, unitMs, config, nowMs, effects);
      return null;
    }
    if (free === 0 && open === 0) {
      const copy = facts.late(whole).find(({ owner, units: late, remainingMs }) => owner !== id && remainingMs > SPECULATION_FACTOR * unitMs * late); // prettier-ignore
      if (copy !== undefined) {
        draft.counts.speculative += 1;
        grant(draft, id, whole, copy.firstUnit, copy.units, unitMs, config, nowMs, effects);
        return null;
      }
    }
  }
  return reason;
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

/** Units that somebody idle may compute a second time, because their owner seems late; the latest first. */
function lateUnits(draft: Draft, pool: Pool, config: RoundConfig, nowMs: number): LateUnits[] {
  const holders = new Uint8Array(pool.status.length);
  const leases = [...draft.leases.values()].filter(({ kind, expired }) => kind === pool.kind && !expired);
  for (const { firstUnit, units } of leases) {
    for (let unit = firstUnit; unit < firstUnit + units; unit++) holders[unit] = Math.min(2, holders[unit]! + 1);
  }
  const mayCopy = (unit: number): boolean => pool.status[unit] === LEASED && holders[unit] === 1;
  const late = leases.flatMap((lease): LateUnits[] => {
    const owner = draft.workers.get(lease.worker);
    const ownerUnitMs = (owner?.sampleMs ?? 1) * pool.unit * (pool.kind === "train" ? 1 : EVALUATION_COST);
    const elapsedMs = nowMs - Math.max(lease.grantedMs, owner?.busySinceMs ?? 0);
    const expectedMs = ownerUnitMs * (lease.units - lease.returned) - elapsedMs;
    // Who is overdue is believed to stay so about as long again.
    const remainingMs = Math.max(expectedMs, elapsedMs - ownerUnitMs);
    const part = config.strict || pool.kind === "evaluate" ? lastUnit(lease, mayCopy) : whole(lease, mayCopy);
    return part === null ? [] : [{ owner: lease.worker, ...part, remainingMs }];
  });
  return late.sort((a, b) => b.remainingMs - a.remainingMs || a.firstUnit - b.firstUnit);
}

type Units = { readonly firstUnit: number; readonly units: number };

/** From the back: the owner works from the front. */
function lastUnit({ firstUnit, units }: Units, mayCopy: (unit: number) => boolean): Units | null {
  for (let unit = firstUnit + units - 1; unit >= firstUnit; unit--)
    if (mayCopy(unit)) return { firstUnit: unit, units: 1 };
  return null;
}

/** A folded contribution is whole or nothing: so is its copy. */
function whole({ firstUnit, units }: Units, mayCopy: (unit: number) => boolean): Units | null {
  for (let unit = firstUnit; unit < firstUnit + units; unit++) if (!mayCopy(unit)) return null;
  return { firstUnit, units };
}
