/**
 * @file Contribution norms against the run's recent ones: a gradient a thousand times too large must not steer a round. The
 * limit is fixed by committed rounds before a round opens.
 *
 * A unit can be truly that large. Leases are deterministic, so a refused one is computed again by somebody else, and the same
 * norm from another worker is believed. Where one step has made all gradients large, asking for each unit twice would cost a
 * whole round: once two workers agree, the rest of that round is compared with what they found, too.
 *
 * None of this decides what a round's sum is [I1]: a refused unit is computed again until it counts, and counts as it is, so an
 * honest round is the same bits whoever came first and was refused how often. Clipped, a contribution's weight follows the
 * reference, so with `clip` that one never moves within a round.
 */

export type GuardChoice = "refuse" | "clip" | "off";

/** How large contributions were: ‖Σ gradient‖ a token, of contributions of so many tokens. */
export type NormReference = { readonly perToken: number; readonly tokens: number };

/** What the merge is to do with a contribution's norm. */
export type NormBounds = {
  /** Infinity for no limit. */
  readonly limit: number;
  /** Above the limit too, norms up to this one have been confirmed by another worker; 0 for none. */
  readonly confirmed: number;
  /** What a norm above the limit is scaled down to; null where it is refused. */
  readonly clipTo: number | null;
};

/**
 * Largest norm in units of the reference. Odd units (a window of one repeated character) are far above it, and confirmation lets them
 * pass (the largest of a run: `npm run bench -- attack`); one worker of eight that sends three times its share, turned round, still
 * leaves the round more than half of its gradient.
 */
const FACTOR = 3;

/** Rounds that the reference remembers: few, because norms fall fast when training begins. */
export const REFERENCE_ROUNDS = 8;

/** Another worker's norm for the same units, in units of the refused one: engines agree to 1e-5, folds of other lengths differ. */
const CONFIRMATION = 1.5;

/** The weight that the contribution goes in with, or null when it is refused. */
export function weigh({ limit, confirmed, clipTo }: NormBounds, norm: number): number | null {
  if (norm <= limit || norm <= CONFIRMATION * confirmed) return 1;
  return clipTo === null ? null : clipTo / norm;
}

/** Of a round's merged contributions: medians, which a minority cannot move. Null when no norm is known. */
export function referenceOf(
  contributions: readonly { readonly norm: number; readonly tokens: number }[],
): NormReference | null {
  const known = contributions.filter(({ norm }) => norm > 0);
  return medianReference(known.map(({ norm, tokens }) => ({ perToken: norm / tokens, tokens })));
}

/**
 * The largest norm that contributions of so many tokens may have. A sum over n tokens is n times the mean gradient plus noise
 * that grows with √n: a token, at least as much as the reference when n is larger, at most √(reference/n) times as much
 * when n is smaller.
 */
export function normLimit(reference: NormReference, tokens: number): number {
  const fewer = Math.max(1, Math.sqrt(reference.tokens / tokens));
  return FACTOR * fewer * reference.perToken * tokens;
}

/**
 * What a norm above the limit is scaled down to: an ordinary one. At the limit itself, whoever exceeds it would weigh as much as three
 * workers, and whoever turns a gradient round takes away three.
 */
export function ordinaryNorm(limit: number): number {
  return limit / FACTOR;
}

/** Null when there is nothing to compare with. */
export function medianReference(references: readonly NormReference[]): NormReference | null {
  if (references.length === 0) return null;
  return {
    perToken: median(references.map(({ perToken }) => perToken)),
    tokens: median(references.map(({ tokens }) => tokens)),
  };
}

/**
 * What the rest of a round is compared with, once two workers of it agree on a norm above the limit: the median of what was merged,
 * so that one odd unit among ordinary ones opens nothing; and never more than they agree on, so that what is believed
 * by this does not raise it further.
 */
export function risenReference(
  merged: readonly { readonly norm: number; readonly tokens: number }[],
  agreed: NormReference,
): NormReference {
  const round = referenceOf(merged);
  return round !== null && round.perToken < agreed.perToken ? round : agreed;
}

/** The lower of the middle two. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1]!;
}

export function describeNorm(norm: number, limit: number): string {
  return `the gradient's norm is ${norm.toPrecision(3)}, recent rounds allow ${limit.toPrecision(3)}`;
}
