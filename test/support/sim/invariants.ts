/** @file What must hold after every event, each a function that carries the id of its invariant in its name. */
import { DONE, FREE, LEASED, MERGING } from "../../../coordinator/round/pool.ts";
import type { Pool } from "../../../coordinator/round/pool.ts";
import type { RoundConfig, RoundState } from "../../../coordinator/round/roundState.ts";
import type { LeaseAccount } from "../../../coordinator/round/leaseAccount.ts";
import type { EvaluationRow, RoundRow } from "../../../coordinator/store/ledger.ts";
import type { Run } from "../../../coordinator/round/run.ts";
import type { SessionState } from "../../../shared/worker/session.ts";
import type { Disk } from "./optimizer.ts";
import type { Reference } from "./reference.ts";
import { Violation } from "./violation.ts";

/** The committed round is, to the bit, what θ_v and its interval give without any disturbance. */
export function checkI1OneBigBatch(row: RoundRow, { rounds }: Reference): void {
  const expected = rounds[row.version - 1];
  for (const field of ["hash", "tokens", "lossSum", "origin", "samples"] as const) {
    if (row[field] === expected?.[field]) continue;
    throw new Violation("I1", `version ${row.version} has ${field} ${row[field]}, undisturbed ${expected?.[field]}`);
  }
}

export function checkI1Evaluation(row: EvaluationRow, { evaluations }: Reference): void {
  const expected = evaluations.get(row.version);
  if (row.lossSum === expected?.lossSum && row.tokens === expected.tokens && row.samples === expected.samples) return;
  throw new Violation(
    "I1",
    `the evaluation at version ${row.version} gave ${row.lossSum}, undisturbed ${expected?.lossSum}`,
  );
}

/** Every unit is free, leased, merging or done, and what its state claims is so. */
export function checkI2ExactlyOnce(state: RoundState): void {
  for (const pool of [state.train, state.evaluation]) if (pool !== null) checkPool(pool, state);
}

function checkPool(pool: Pool, state: RoundState): void {
  const units = pool.status.length;
  const held = new Uint8Array(units);
  const merging = new Uint8Array(units);
  const done = new Uint8Array(units);
  for (const { kind, firstUnit, units: count, expired, returnedUnits } of state.leases.values()) {
    if (kind !== pool.kind || expired) continue;
    for (let unit = firstUnit; unit < firstUnit + count; unit++) if (!returnedUnits.has(unit)) held[unit] = 1;
  }
  if (pool.kind === "train")
    for (const { firstUnit, units: count } of state.merging.values()) countIn(merging, firstUnit, count);
  for (const { firstUnit, units: count } of pool.results) countIn(done, firstUnit, count);
  let doneUnits = 0;
  for (let unit = 0; unit < units; unit++) {
    const status = pool.status[unit]!;
    const name = `${pool.kind} unit ${unit} of version ${state.version}`;
    if (merging[unit]! + done[unit]! > 1)
      throw new Violation("I2", `${name} is counted ${merging[unit]! + done[unit]!} times`);
    if ((status === MERGING) !== (merging[unit] === 1))
      throw new Violation("I2", `${name}: status ${status}, merging ${merging[unit]}`);
    if ((status === DONE) !== (done[unit] === 1))
      throw new Violation("I2", `${name}: status ${status}, results ${done[unit]}`);
    if (status === LEASED && held[unit] === 0)
      throw new Violation("I2", `${name} is leased, but nobody has a lease on it`);
    if (status !== FREE && status !== LEASED && status !== MERGING && status !== DONE)
      throw new Violation("I2", `${name}: status ${status}`);
    if (status === DONE) doneUnits += 1;
  }
  if (doneUnits !== pool.doneUnits) throw new Violation("I2", `${doneUnits} units are done, counted ${pool.doneUnits}`);
}

/** Issued = committed ∪ returned: every unit of every lease of the round is accounted for, once. */
export function checkI2Account({ issued, leases, returned }: LeaseAccount, config: RoundConfig): void {
  const committed = leases.reduce((sum, lease) => sum + lease.units - lease.returned, 0);
  const back =
    leases.reduce((sum, lease) => sum + lease.returned, 0) + returned.reduce((sum, { units }) => sum + units, 0);
  const units = Math.ceil(config.batch / config.unit);
  if (committed !== units)
    throw new Violation("I2", `${committed} units are committed by leases, the round has ${units}`);
  if (issued !== committed + back)
    throw new Violation("I2", `${issued} units issued, ${committed} committed and ${back} returned`);
}

/** The ledger: rounds follow on each other; each one's units are there once. */
export function checkI2Ledger({ rounds, contributions }: Disk, config: RoundConfig): void {
  const last = rounds.at(-1);
  if (last === undefined) return;
  if (last.version !== rounds.length || last.origin !== (last.version - 1) * config.batch) {
    throw new Violation("I2", `row ${rounds.length} is version ${last.version} from sample ${last.origin}`);
  }
  const parts = [...(contributions.get(last.version) ?? [])].sort((a, b) => a.firstUnit - b.firstUnit);
  let unit = 0;
  let tokens = 0;
  for (const part of parts) {
    if (part.firstUnit !== unit) throw new Violation("I2", `version ${last.version}: unit ${unit} is missing or twice`);
    unit += part.units;
    tokens += part.tokens;
  }
  if (unit !== Math.ceil(config.batch / config.unit) || tokens !== last.tokens) {
    throw new Violation("I2", `version ${last.version}: ${unit} units and ${tokens} tokens in the ledger`);
  }
}

/** The θ on which a worker computes is the published one of its version. */
export function checkI3OneTheta(
  worker: string,
  version: number,
  hash: string,
  published: (version: number) => string | undefined,
): void {
  if (published(version) === hash) return;
  throw new Violation(
    "I3",
    `${worker} computes on θ ${hash} as version ${version}; published is ${published(version)}`,
  );
}

/** A worker asks for a second lease when its first is nearly done, and never for a third. */
const SESSION_LEASES = 2;

/** What the coordinator holds is bounded by the round's units and by who is connected. */
export function checkI5Bounded(run: Run, connected: number, config: RoundConfig): void {
  const state = run.state();
  const units = (state.train?.status.length ?? 0) + (state.evaluation?.status.length ?? 0);
  const { workers, payloads } = run.sizes();
  bound("workers in the reducer", state.workers.size, connected);
  bound("workers in the run", workers, connected);
  bound("contributions in the merge", state.merging.size, Math.ceil(config.batch / config.unit));
  bound("payloads", payloads, 0);
  for (const [id, { worker }] of state.leases) {
    if (!state.workers.has(worker)) throw new Violation("I5", `lease ${id} of ${worker}, who is gone`);
  }
  let open = 0;
  for (const { expired, returned, units: count } of state.leases.values()) if (!expired && returned < count) open += 1;
  bound("open leases", open, 2 * state.workers.size);
  // One that was refused stays until its round ends; pauses that double keep a worker from making many.
  const { expired, refused } = state.counts;
  bound("leases", state.leases.size, units + 2 * state.workers.size + expired + refused);
}

export function checkI5Session(worker: string, { leases }: SessionState): void {
  if (leases.size > SESSION_LEASES) throw new Violation("I5", `${worker} holds ${leases.size} leases`);
}

function countIn(seen: Uint8Array, firstUnit: number, units: number): void {
  for (let unit = firstUnit; unit < firstUnit + units; unit++) seen[unit]! += 1;
}

function bound(what: string, size: number, limit: number): void {
  if (size > limit) throw new Violation("I5", `${size} ${what}, the bound is ${limit}`);
}
