/** @file The learning rate as a function of committed updates; time and tokens do not enter. */

export type Schedule = {
  /** Peak, reached after the warm-up. */
  readonly learningRate: number;
  /** Where the decay ends; at most `learningRate`. */
  readonly minLearningRate: number;
  /** Updates of linear warm-up. */
  readonly warmupSteps: number;
} & (
  | {
      /** Warm-up, then a half cosine down to the minimum at `totalSteps`. */
      readonly kind: "cosine";
      readonly totalSteps: number;
    }
  | {
      /** Warm-up, stable, decay: constant until the last `decaySteps`. Infinity: a run without an end never decays. */
      readonly kind: "wsd";
      readonly totalSteps: number;
      readonly decaySteps: number;
    }
);

/**
 * lr(t) for t = 0, 1, 2, … committed updates, with W warm-up and N total steps:
 *
 *     t < W           lr·(t+1)/(W+1)
 *     t ≥ N           min
 *     cosine          min + ½(lr − min)(1 + cos(π·(t−W)/(N−W)))
 *     wsd             lr until N−D, then min + (lr − min)·(1 − √((t−(N−D))/D))
 *
 * Sources: nanoGPT's get_lr; Hägele et al. 2024 (2405.18392), the (1−sqrt) cooldown. docs/numerics.md §2.
 *
 * @throws RangeError when t is negative or not an integer.
 */
export function learningRateAt(schedule: Schedule, step: number): number {
  if (!Number.isInteger(step) || step < 0) throw new RangeError(`learning rate at step ${step}, expected 0, 1, 2, …`);
  const { learningRate: peak, minLearningRate: min, warmupSteps, totalSteps } = schedule;
  if (step < warmupSteps) return (peak * (step + 1)) / (warmupSteps + 1);
  if (step >= totalSteps) return min;
  switch (schedule.kind) {
    case "cosine": {
      const progress = (step - warmupSteps) / (totalSteps - warmupSteps);
      return min + 0.5 * (peak - min) * (1 + Math.cos(Math.PI * progress));
    }
    case "wsd": {
      const decayStart = Math.max(warmupSteps, totalSteps - schedule.decaySteps);
      if (step < decayStart) return peak;
      return min + (peak - min) * (1 - Math.sqrt((step - decayStart) / (totalSteps - decayStart)));
    }
    default:
      throw schedule satisfies never;
  }
}
