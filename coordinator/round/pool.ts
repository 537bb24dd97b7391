/** @file The units of one kind of work in one round: free, leased, merging or done. Values: every function returns a new pool. */
import type { LeaseId, LeaseKind, WorkerId } from "../../shared/wire/protocol.ts";

export type UnitResult = {
  readonly worker: WorkerId;
  readonly lease: LeaseId;
  readonly firstUnit: number;
  readonly units: number;
  readonly tokens: number;
  readonly lossSum: number;
  /** ‖Σ gradient‖, as it went into the merge; 0 where none is known. */
  readonly norm: number;
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

export const FREE = 0;
export const LEASED = 1;
export const MERGING = 2;
export const DONE = 3;

export function newPool(kind: LeaseKind, origin: number, samples: number, unit: number): Pool {
  return { kind, origin, samples, unit, status: new Uint8Array(Math.ceil(samples / unit)), doneUnits: 0, results: [] };
}

export function withStatus(pool: Pool, firstUnit: number, units: number, value: number): Pool {
  const status = pool.status.slice();
  status.fill(value, firstUnit, firstUnit + units);
  return { ...pool, status };
}

export function finishUnits(pool: Pool, result: UnitResult): Pool {
  const done = withStatus(pool, result.firstUnit, result.units, DONE);
  return { ...done, doneUnits: pool.doneUnits + result.units, results: [...pool.results, result] };
}

export function countFree(pool: Pool): number {
  let free = 0;
  for (const status of pool.status) if (status === FREE) free += 1;
  return free;
}

/** Length of the run of free units from `first`, at most `wanted`. */
export function freeRun(pool: Pool, first: number, wanted: number): number {
  let units = 1;
  while (units < wanted && pool.status[first + units] === FREE) units += 1;
  return units;
}

export function samplesOf(pool: Pool, firstUnit: number, units: number): number {
  return Math.min(pool.samples, (firstUnit + units) * pool.unit) - firstUnit * pool.unit;
}

/** Summed in unit order: float addition is not associative. */
export function totals(results: readonly UnitResult[]): { tokens: number; lossSum: number } {
  const sorted = [...results].sort((a, b) => a.firstUnit - b.firstUnit);
  return sorted.reduce((sum, { tokens, lossSum }) => ({ tokens: sum.tokens + tokens, lossSum: sum.lossSum + lossSum }), { tokens: 0, lossSum: 0 }); // prettier-ignore
}
