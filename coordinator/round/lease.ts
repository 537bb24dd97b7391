/** @file How much work to hand to whom: pure arithmetic on measured speeds, so that a round ends for everybody at once. */

/** A worker as the end of a round depends on it. */
export type Hand = {
  /** Measured time of one unit, ms. */
  readonly unitMs: number;
  /** Until it is through with what it has, ms; 0 when it is idle. */
  readonly busyMs: number;
};

export type LeaseQuestion = Hand & {
  /** Units of the pool nobody has yet. */
  readonly free: number;
  /** When they can be done at the soonest by all workers together, the asking one among them: {@link soonestEnd}, ms from now. */
  readonly endMs: number;
  /** Whether a worker folds a lease into one contribution (then few large leases, else many small ones). */
  readonly folds: boolean;
};

export type LeaseAnswer =
  | { readonly units: number }
  /** A lease would make the others wait. */
  | { readonly units: 0; readonly reason: string };

/** Forward alone against forward and backward. */
export const EVALUATION_COST: number = 1 / 3;

/** Clock jitter and message latency: differences below this do not make a worker slow. */
export const JITTER_MS = 20;

/** Of a folded lease: a message of megabytes is little beside it. */
const LONG_LEASE_MS = 5000;

/** For quotients of times that are whole numbers but for rounding. */
const ROUNDING = 1e-6;

/**
 * The least t with Σᵢ ⌊(t − busyᵢ)/unitᵢ⌋ ≥ units: a unit is one worker's, so nothing ends sooner, and whoever gives each
 * unit to the worker that ends it first ends then. Infinity where nobody works.
 */
export function soonestEnd(units: number, hands: readonly Hand[]): number {
  if (units <= 0) return 0;
  let late = Infinity;
  for (const { unitMs, busyMs } of hands) late = Math.min(late, busyMs + units * unitMs);
  if (late === Infinity) return Infinity;
  let early = 0;
  while (late - early > (ROUNDING / 10) * late) {
    const middle = (early + late) / 2;
    let done = 0;
    for (const hand of hands) done += unitsBy(middle, hand);
    if (done >= units) late = middle;
    else early = middle;
  }
  return late;
}

/**
 * A worker may have what it can do until the soonest end of all that is free: then that is when the round ends. Where each
 * unit is a contribution of its own it gets half of that at a time (guided self-scheduling, Polychronopoulos & Kuck 1987), so
 * that leases shrink towards the end and a surprise costs one unit. Where leases are folded each one costs a full-size
 * message, so it gets all at once; but of what takes long three quarters, so that being a tenth slower than expected does not
 * cost all others a tenth of the round.
 */
export function leaseUnits({ free, unitMs, busyMs, endMs, folds }: LeaseQuestion): LeaseAnswer {
  if (free <= 0) return { units: 0, reason: "every unit of this round is handed out" };
  if (busyMs + unitMs > endMs * (1 + ROUNDING) + JITTER_MS) {
    return {
      units: 0,
      reason: `the smallest piece of work takes this device ${describe(unitMs)}, the others finish the rest of the round sooner`,
    };
  }
  const share = unitsBy(endMs, { unitMs, busyMs });
  const part = !folds ? 1 / 2 : share * unitMs > LONG_LEASE_MS ? 3 / 4 : 1;
  return { units: Math.min(free, Math.max(1, Math.ceil(part * share))) };
}

/** Units that a worker can end within so many ms. */
function unitsBy(ms: number, { unitMs, busyMs }: Hand): number {
  return Math.max(0, Math.floor((ms - busyMs) / unitMs + ROUNDING));
}

function describe(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
