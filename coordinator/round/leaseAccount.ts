/**
 * @file What became of the leases of a round [I2]: every unit of every lease ends as committed or as returned, never as both.
 * Kept while the round is under way and written with it. Bounded [I5]: leases that something was merged from are at most as
 * many as the round has units; all others are summed up by why they ended.
 */
import type { LeaseId, WorkerId } from "../../shared/wire/protocol.ts";

/**
 * Why units of a lease were not committed: the worker gave it back, left, had to load θ anew, was too late, or sent what was
 * refused; somebody else was faster; the whole round was skipped.
 */
export const leaseEnds = ["released", "left", "reset", "expired", "refused", "superseded", "skipped"] as const;
export type LeaseEnd = (typeof leaseEnds)[number];

/** A lease that something was merged from. */
export type LeaseOutcome = {
  readonly lease: LeaseId;
  readonly worker: WorkerId;
  readonly firstUnit: number;
  readonly units: number;
  /** Units that were not merged from this lease. */
  readonly returned: number;
  /** Why; null when none was returned. */
  readonly end: LeaseEnd | null;
};

/** Leases of which nothing was merged. */
export type ReturnedLeases = { readonly end: LeaseEnd; readonly leases: number; readonly units: number };

export type LeaseAccount = {
  /** Units handed out, each as often as it was. */
  readonly issued: number;
  /** By lease. */
  readonly leases: readonly LeaseOutcome[];
  readonly returned: readonly ReturnedLeases[];
};

type Ended = Omit<LeaseOutcome, "returned" | "end"> & { readonly end: LeaseEnd };

/** The account while the round is under way. */
export type OpenAccount = {
  readonly issued: number;
  /** Ended leases that something was merged from, or is on its way into the merge. */
  readonly ended: ReadonlyMap<LeaseId, Ended>;
  readonly returned: ReadonlyMap<LeaseEnd, { readonly leases: number; readonly units: number }>;
};

export const emptyAccount: OpenAccount = { issued: 0, ended: new Map(), returned: new Map() };

export function issue(account: OpenAccount, units: number): OpenAccount {
  return { ...account, issued: account.issued + units };
}

/** A lease ended. `contributed`: whether anything of it was merged or is being merged. */
export function endLease(
  account: OpenAccount,
  { lease, worker, firstUnit, units }: Omit<LeaseOutcome, "returned" | "end">,
  end: LeaseEnd,
  contributed: boolean,
): OpenAccount {
  if (!contributed) return sum(account, end, units);
  return { ...account, ended: new Map(account.ended).set(lease, { lease, worker, firstUnit, units, end }) };
}

/** The account of a round whose leases have all ended; `merged` has the lease and the units of each merged contribution. */
export function closeAccount(
  account: OpenAccount,
  merged: readonly { readonly lease: LeaseId; readonly units: number }[],
): LeaseAccount {
  const committed = new Map<LeaseId, number>();
  for (const { lease, units } of merged) committed.set(lease, (committed.get(lease) ?? 0) + units);
  const leases: LeaseOutcome[] = [];
  let rest = account;
  for (const { end, ...lease } of [...account.ended.values()].sort((a, b) => a.lease - b.lease)) {
    const returned = lease.units - (committed.get(lease.lease) ?? 0);
    if (returned < lease.units) leases.push({ ...lease, returned, end: returned === 0 ? null : end });
    else rest = sum(rest, end, lease.units);
  }
  const returned = [...rest.returned].map(([end, counts]) => ({ end, ...counts }));
  return { issued: account.issued, leases, returned: returned.sort((a, b) => (a.end < b.end ? -1 : 1)) };
}

/** The round begins anew: what had been merged is returned too. */
export function skipRound(account: OpenAccount): OpenAccount {
  let skipped: OpenAccount = { ...account, ended: new Map() };
  for (const { units } of account.ended.values()) skipped = sum(skipped, "skipped", units);
  return skipped;
}

function sum(account: OpenAccount, end: LeaseEnd, units: number): OpenAccount {
  const before = account.returned.get(end) ?? { leases: 0, units: 0 };
  const after = { leases: before.leases + 1, units: before.units + units };
  return { ...account, returned: new Map(account.returned).set(end, after) };
}
