/**
 * @file The order of a round's additions. Contributions arrive in any order and are added in unit order, so that the sum,
 * and with it θ, is the same bits whoever was faster [I1]. Bookkeeping only: `take` decides, the arena adds.
 */

/** Units [firstUnit, firstUnit + units) of the round. */
export type Part = { readonly firstUnit: number; readonly units: number };

export type MergeState<P extends Part> = {
  /** Units of the round. */
  readonly units: number;
  /** Units [0, next) are in the sum. */
  readonly next: number;
  /** Parts that came before their turn, by firstUnit. */
  readonly waiting: readonly P[];
};

export type MergeRefusal = "out-of-range" | "overlap" | "too-many-waiting";

export type MergeDecision<P extends Part> =
  | {
      readonly state: MergeState<P>;
      /** To be added now, in this order; empty when the part has to wait. */
      readonly add: readonly P[];
      readonly reason: string;
    }
  | { readonly state: MergeState<P>; readonly refused: MergeRefusal; readonly reason: string };

export function startMerge<P extends Part>(units: number): MergeState<P> {
  if (!Number.isSafeInteger(units) || units < 1) throw new RangeError(`a round of ${units} units`);
  return { units, next: 0, waiting: [] };
}

/** Nothing is missing: the round can be stepped on. */
export function mergeComplete({ units, next }: MergeState<Part>): boolean {
  return next === units;
}

/**
 * Takes a checked contribution in. The one whose turn it is is always taken; of the others, at most `maxWaiting` are
 * kept: each holds a payload in memory [I5].
 */
export function takePart<P extends Part>(state: MergeState<P>, part: P, maxWaiting: number): MergeDecision<P> {
  const { firstUnit, units } = part;
  const end = firstUnit + units;
  const name = `units ${firstUnit} to ${end - 1}`;
  if (
    !Number.isSafeInteger(firstUnit) ||
    !Number.isSafeInteger(units) ||
    firstUnit < 0 ||
    units < 1 ||
    end > state.units
  ) {
    return { state, refused: "out-of-range", reason: `${name} of a round of ${state.units}` };
  }
  const other = state.waiting.find((held) => firstUnit < held.firstUnit + held.units && held.firstUnit < end);
  if (firstUnit < state.next || other !== undefined) {
    return { state, refused: "overlap", reason: `${name} are already in the round, in part or as a whole` };
  }
  if (firstUnit > state.next) {
    if (state.waiting.length >= maxWaiting) {
      return {
        state,
        refused: "too-many-waiting",
        reason: `${name} before unit ${state.next}, ${maxWaiting} are waiting`,
      };
    }
    const waiting = [...state.waiting, part].sort((a, b) => a.firstUnit - b.firstUnit);
    return { state: { ...state, waiting }, add: [], reason: `${name} wait for unit ${state.next}` };
  }
  const add = [part];
  let next = end;
  const waiting = [...state.waiting];
  while (waiting[0]?.firstUnit === next) {
    const follower = waiting.shift()!;
    add.push(follower);
    next += follower.units;
  }
  return { state: { ...state, next, waiting }, add, reason: `units up to ${next - 1} of ${state.units} are merged` };
}
