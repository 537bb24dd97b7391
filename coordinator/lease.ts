/** @file How much work to hand to whom: pure arithmetic on measured speeds, so that a round ends for everybody at once. */

export type LeaseQuestion = {
  /** Units of the pool nobody has yet. */
  readonly free: number;
  /** Measured time of one unit on the asking worker, ms. */
  readonly unitMs: number;
  /** Σ 1/unitMs over the other workers that are ready, units per ms. */
  readonly othersRate: number;
  /** The least time that any of them needs for a unit; Infinity when there are none. */
  readonly othersUnitMs: number;
  /** Whether anybody has a lease on this pool: where nobody works, nobody is waited for. */
  readonly underWay: boolean;
  /** Whether a worker folds a lease into one contribution (then few large leases, else many small ones). */
  readonly folds: boolean;
};

export type LeaseAnswer =
  | { readonly units: number }
  /** A lease would make the others wait. */
  | { readonly units: 0; readonly reason: string };

/** Forward alone against forward and backward. */
export const EVALUATION_COST: number = 1 / 3;

/**
 * A worker may end the rest of a round this much later than the others would end it without it. Of 1 to 1.5 the value with which
 * mixed fleets came closest to the sum of their speeds (`npm run bench -- elastic`).
 */
const PATIENCE = 1.2;

/** Clock jitter and message latency: differences below this do not make a worker slow. */
const JITTER_MS = 20;

/**
 * Guided self-scheduling (Polychronopoulos & Kuck 1987): a share of what is left in proportion to speed, so that leases
 * shrink towards the end of the round and a late surprise costs one unit. Where leases are folded each one costs a
 * full-size message, so the whole share of what is left is taken at once, not half of it.
 */
export function leaseUnits(question: LeaseQuestion): LeaseAnswer {
  const { free, unitMs, othersRate, othersUnitMs, underWay, folds } = question;
  if (free <= 0) return { units: 0, reason: "every unit of this round is handed out" };
  if (othersRate > 0 && underWay) {
    // A unit is one worker's: however many there are, the rest takes as long as the fastest needs for one.
    const othersMs = Math.max(free / othersRate, othersUnitMs);
    if (unitMs > PATIENCE * othersMs + JITTER_MS) {
      const reason =
        `the smallest piece of work takes this device ${describe(unitMs)}, ` +
        `the others finish the rest of the round in ${describe(othersMs)}`;
      return { units: 0, reason };
    }
  }
  const rate = 1 / unitMs;
  const share = rate / (rate + othersRate);
  const units = Math.ceil(folds ? free * share : (free * share) / 2);
  return { units: Math.min(free, Math.max(1, units)) };
}

function describe(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
