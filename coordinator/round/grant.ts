/** @file Who gets which units now: leases for the workers that pull, copies of late units for those that would be idle. */
import type { LeaseKind, WorkerId } from "../../shared/wire/protocol.ts";
import { EVALUATION_COST, JITTER_MS, leaseUnits, soonestEnd } from "./lease.ts";
import type { Hand } from "./lease.ts";
import { issue } from "./leaseAccount.ts";
import { openLeases } from "./leases.ts";
import { DONE, FREE, LEASED, countFree, freeRun, withStatus } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { newWorker, update } from "./roundState.ts";
import type { Draft, LeaseRecord, Outlier, RoundConfig, RoundEffect, WorkerRecord } from "./roundState.ts";

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
        (facts.open.get(id)?.length ?? 0) < MAX_LEASES_PER_WORKER,
    ) // prettier-ignore
    .sort(([a, { sampleMs: x }], [b, { sampleMs: y }]) => (x ?? 0) - (y ?? 0) || (a < b ? -1 : 1));
  for (const [id, worker] of pulling) {
    if (worker.onTrial) {
      wait(draft, id, "the coordinator has yet to see that this machine computes right", effects);
      continue;
    }
    if (nowMs < worker.suspendedUntilMs) {
      const units = toConfirm(draft, id);
      if (units === null) wait(draft, id, `paused after ${worker.strikes} refused contributions`, effects);
      else {
        grant(draft, id, units.pool, units, unitMsOf(worker, units.pool), config, nowMs, effects);
        facts = gather(draft, config, nowMs);
      }
      continue;
    }
    const reason = grantOne(draft, id, facts, config, nowMs, effects);
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
  readonly open: ReadonlyMap<WorkerId, readonly LeaseRecord[]>;
  readonly busyMs: (worker: WorkerId) => number;
  readonly someProven: boolean;
  /** When the free units of a pool can be done at the soonest, ms from now. */
  readonly endMs: (pool: Pool) => number;
  /** When the first of the workers but this one could end so many units more, ms from now. */
  readonly firstOtherMs: (worker: WorkerId, units: number, pool: Pool) => number;
  readonly late: (pool: Pool) => readonly LateUnits[];
};

/** Units that one worker may take over from another. */
type LateUnits = {
  readonly owner: WorkerId;
  readonly firstUnit: number;
  readonly units: number;
  readonly remainingMs: number;
  /** For units that a newcomer has: when it says that it will be done, ms from now; 0 when that is past. */
  readonly promisedMs?: number;
};

function gather(draft: Draft, config: RoundConfig, nowMs: number): Facts {
  const open = new Map<WorkerId, LeaseRecord[]>();
  for (const lease of draft.leases.values()) {
    if (lease.expired || lease.returned >= lease.units) continue;
    const others = open.get(lease.worker);
    if (others === undefined) open.set(lease.worker, [lease]);
    else others.push(lease);
  }
  const busy = new Map<WorkerId, number>();
  const busyMs = (id: WorkerId): number => {
    const known = busy.get(id) ?? busyMsOf(draft, id, open.get(id) ?? [], config, nowMs);
    busy.set(id, known);
    return known;
  };
  const ends = new Map<LeaseKind, number>();
  const hands = new Map<LeaseKind, readonly NamedHand[]>();
  const handsOf = (pool: Pool): readonly NamedHand[] => {
    const known = hands.get(pool.kind) ?? handsFor(draft, pool, busyMs, someProven, config, nowMs);
    hands.set(pool.kind, known);
    return known;
  };
  const late = new Map<Pool, readonly LateUnits[]>();
  const someProven = isAnybodyProven(draft);
  return {
    open,
    someProven,
    busyMs,
    endMs(pool) {
      const known = ends.get(pool.kind) ?? soonestEnd(countFree(pool), handsOf(pool));
      ends.set(pool.kind, known);
      return known;
    },
    firstOtherMs(worker, units, pool) {
      let first = Infinity;
      for (const { id, unitMs, busyMs: busy } of handsOf(pool))
        if (id !== worker) first = Math.min(first, busy + units * unitMs);
      return first;
    },
    late(pool) {
      const known = late.get(pool) ?? lateUnits(draft, pool, someProven, config, nowMs);
      late.set(pool, known);
      return known;
    },
  };
}

/** Whether something was merged that came on a connection which is still there. */
export function isAnybodyProven({ workers }: Draft): boolean {
  for (const { tokens } of workers.values()) if (tokens > 0) return true;
  return false;
}

/**
 * A newcomer gets one unit at a time, to show what it can do, and nobody waits for it: a proven worker that would be idle computes
 * the same unit. So strangers that take units and deliver nothing cost the others nothing but messages.
 */
function isNewcomer({ isNew }: WorkerRecord, someProven: boolean): boolean {
  return isNew && someProven;
}

type NamedHand = Hand & { readonly id: WorkerId };

/** Everybody with whose work the end of this pool is planned. */
function handsFor(
  draft: Draft,
  pool: Pool,
  busyMs: (id: WorkerId) => number,
  someProven: boolean,
  config: RoundConfig,
  nowMs: number,
): NamedHand[] {
  const refused = new Set(pool.kind === "train" ? draft.outliers.map(({ worker }) => worker) : []);
  return [...draft.workers].flatMap(([id, worker]): NamedHand[] => {
    if (!mayWork(worker, nowMs) || worker.sampleMs === null || isNewcomer(worker, someProven)) return [];
    // Some of the free units are not for it, see openTo.
    if (refused.has(id) && !isAlone(draft, id, config, nowMs)) return [];
    return [{ id, unitMs: unitMsOf(worker, pool), busyMs: busyMs(id) }];
  });
}

/** Time of one unit of this pool on a worker, as it was measured. */
function unitMsOf({ sampleMs }: WorkerRecord, { kind, unit }: Pool): number {
  return (sampleMs ?? 1) * unit * (kind === "train" ? 1 : EVALUATION_COST);
}

/** Until a worker is through with all it has; one that neither has nor asks for anything is in the last unit of a round that is over. */
function busyMsOf(
  draft: Draft,
  id: WorkerId,
  leases: readonly LeaseRecord[],
  config: RoundConfig,
  nowMs: number,
): number {
  const worker = draft.workers.get(id) ?? newWorker();
  if (leases.length === 0 && worker.pulls) return 0;
  if (leases.length === 0) return Math.abs(nowMs - worker.busySinceMs - (worker.sampleMs ?? 0) * config.unit);
  let ahead = 0;
  let result = 0;
  for (const lease of leases) {
    const expected = expectedMs(draft, lease, config);
    ahead += expected.all;
    result = Math.max(result, expected.result);
  }
  const elapsedMs = nowMs - worker.busySinceMs;
  // Who is overdue is believed to stay so about as long again.
  return Math.max(ahead - elapsedMs, elapsedMs - result, 0);
}

/** Expected time of what is left of a lease, and until its next result. */
function expectedMs(draft: Draft, lease: LeaseRecord, config: RoundConfig): { all: number; result: number } {
  const pool = lease.kind === "train" ? draft.train : draft.evaluation;
  const worker = draft.workers.get(lease.worker);
  if (pool === null || worker === undefined) return { all: 0, result: 0 };
  const unitMs = unitMsOf(worker, pool);
  const all = unitMs * (lease.units - lease.returned);
  return { all, result: folds(config, lease.kind) ? all : unitMs };
}

/** Whether a lease of this kind comes back as one contribution. */
function folds({ strict }: RoundConfig, kind: LeaseKind): boolean {
  return !strict && kind === "train";
}

/** Who was refused so often in a row pauses long, and is not expected to bring anything good after it. */
const GIVEN_UP_STRIKES = 3;

/** Whether nobody else could compute a unit again: who hangs is not asked, or the unit would wait for ever. */
export function isAlone(draft: Draft, id: WorkerId, config: RoundConfig, nowMs: number): boolean {
  return others(draft, id, config, nowMs).next().done === true;
}

/**
 * Who pauses counts while it may be right: shortly, or for a norm of which nobody knows yet whether it is. Else a liar would be
 * alone, and believed, as soon as all honest workers were refused in a step that makes every gradient large.
 */
function* others(draft: Draft, id: WorkerId, config: RoundConfig, nowMs: number): Generator<WorkerId, undefined> {
  for (const [other, worker] of draft.workers) {
    if (other === id || hangs(draft, other, worker, config, nowMs)) continue;
    const isTrusted = worker.ready && !worker.onTrial;
    const doubted = (): boolean => draft.outliers.some((outlier) => outlier.worker === other);
    if (mayWork(worker, nowMs) || (isTrusted && (worker.strikes < GIVEN_UP_STRIKES || doubted()))) yield other;
  }
}

/** Asks for nothing, holds no lease that could still come back, and has not answered for as long as a lease may take. */
function hangs(draft: Draft, id: WorkerId, worker: WorkerRecord, config: RoundConfig, nowMs: number): boolean {
  if (worker.pulls || openLeases(draft, id).length > 0) return false;
  const unitMs = (worker.sampleMs ?? 0) * config.unit;
  return nowMs - worker.busySinceMs >= Math.max(config.minLeaseMs, LEASE_SLACK * unitMs);
}

/** What was refused for its norm among these units. */
export function outliersAmong({ outliers }: Draft, firstUnit: number, units: number): readonly Outlier[] {
  return outliers.filter((other) => firstUnit < other.firstUnit + other.units && other.firstUnit < firstUnit + units);
}

/**
 * The pool as this worker sees it: units that it was refused for their norm are another's to compute, to see who is right.
 * Where everybody else was refused for them, too, or there is nobody else, they are the same one's again.
 */
function openTo(draft: Draft, id: WorkerId, pool: Pool, config: RoundConfig, nowMs: number): Pool {
  const own = draft.outliers.filter(({ worker }) => worker === id);
  if (pool.kind !== "train" || own.length === 0) return pool;
  const rest = [...others(draft, id, config, nowMs)];
  const barred = own.filter(({ firstUnit, units }) => {
    const refused = new Set(outliersAmong(draft, firstUnit, units).map(({ worker }) => worker));
    return rest.some((other) => !refused.has(other));
  });
  return barred.reduce((open, { firstUnit, units }) => withStatus(open, firstUnit, units, DONE), pool);
}

/**
 * What a worker that pauses computes all the same: units that another was refused for their norm, if norms of this round are all that it
 * is blamed for itself. When a step has made all gradients large everybody is refused at once, and a single second opinion shows
 * it: nobody would gain if everybody waited. A liar gets each such unit once.
 */
function toConfirm(draft: Draft, id: WorkerId): (Units & { readonly pool: Pool }) | null {
  const { train: pool, outliers } = draft;
  const own = outliers.filter(({ worker }) => worker === id);
  if (pool === null || (draft.workers.get(id)?.strikes ?? 0) > own.length) return null;
  const found = outliers.find(({ firstUnit, units }) =>
    outliersAmong(draft, firstUnit, units).every(({ worker }) => worker !== id) && pool.status[firstUnit] === FREE); // prettier-ignore
  return found === undefined
    ? null
    : { pool, firstUnit: found.firstUnit, units: freeRun(pool, found.firstUnit, found.units) };
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
  facts: Facts,
  config: RoundConfig,
  nowMs: number,
  effects: RoundEffect[],
): string | null {
  const open = facts.open.get(id)?.length ?? 0;
  let reason = "every unit of this round is handed out";
  for (const whole of [draft.train, draft.evaluation]) {
    if (whole === null) continue;
    const pool = openTo(draft, id, whole, config, nowMs);
    const worker = draft.workers.get(id) ?? newWorker();
    const unitMs = unitMsOf(worker, pool);
    const free = countFree(pool);
    const isNew = isNewcomer(worker, facts.someProven);
    if (isNew && open > 0) {
      reason = "a new worker computes one unit before it gets more";
      continue;
    }
    const busyMs = facts.busyMs(id);
    const answer = leaseUnits({ free, unitMs, busyMs, endMs: facts.endMs(whole), folds: folds(config, pool.kind) });
    let units = answer.units;
    if (units === 0 && free > 0) {
      reason = "reason" in answer ? answer.reason : reason;
      if (nowMs - worker.probedMs < config.probeEveryMs) continue;
      update(draft, id, { probedMs: nowMs });
      units = 1;
    }
    if (units > 0) {
      const firstUnit = pool.status.indexOf(FREE);
      const run = freeRun(pool, firstUnit, isNew ? 1 : units);
      grant(draft, id, whole, { firstUnit, units: run }, unitMs, config, nowMs, effects);
      return null;
    }
    // Who may hold a unit for ever must not hold its only copy too.
    if (free === 0 && !isNew) {
      const copy = facts.late(whole).find(({ owner, units: late, remainingMs, promisedMs }) => {
        const copyMs = unitMs * late;
        if (owner === id) return false;
        // A unit is copied once: by who ends it first, be it busy now.
        if (busyMs + copyMs > facts.firstOtherMs(id, late, whole) + JITTER_MS) return false;
        // A newcomer's units are as if nobody had them, but for those that will be here before the copy is begun.
        if (promisedMs !== undefined) return promisedMs === 0 || promisedMs > busyMs;
        return open === 0 && remainingMs > SPECULATION_FACTOR * copyMs;
      });
      if (copy !== undefined) {
        draft.counts.speculative += 1;
        grant(draft, id, whole, copy, unitMs, config, nowMs, effects);
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
  { firstUnit, units }: Units,
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

/** Units that somebody idle may compute a second time, because their owner seems late or is new; the latest first. */
function lateUnits(draft: Draft, pool: Pool, someProven: boolean, config: RoundConfig, nowMs: number): LateUnits[] {
  const holders = new Uint8Array(pool.status.length);
  const leases = [...draft.leases.values()].filter(({ kind, expired }) => kind === pool.kind && !expired);
  for (const { firstUnit, units } of leases) {
    for (let unit = firstUnit; unit < firstUnit + units; unit++) holders[unit] = Math.min(2, holders[unit]! + 1);
  }
  const mayCopy = (unit: number): boolean => pool.status[unit] === LEASED && holders[unit] === 1;
  const late = leases.flatMap((lease): LateUnits[] => {
    const owner = draft.workers.get(lease.worker);
    const elapsedMs = nowMs - Math.max(lease.grantedMs, owner?.busySinceMs ?? 0);
    const { all, result } = expectedMs(draft, lease, config);
    // Who is overdue is believed to stay so about as long again.
    const promised =
      owner !== undefined && isNewcomer(owner, someProven) ? { promisedMs: Math.max(0, all - elapsedMs) } : {};
    const remainingMs = Math.max(all - elapsedMs, elapsedMs - result);
    const part = folds(config, pool.kind) ? whole(lease, mayCopy) : lastUnit(lease, mayCopy);
    return part === null ? [] : [{ owner: lease.worker, ...part, remainingMs, ...promised }];
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
