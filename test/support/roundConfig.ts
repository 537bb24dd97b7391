/** @file A small round for tests of the reducer: a few units of four samples, nothing evaluated. */
import type { RoundConfig } from "../../coordinator/round/roundState.ts";

export const smallRound: RoundConfig = {
  batch: 10,
  unit: 4,
  evaluationUnit: 8,
  tokensPerSample: 5,
  steps: 3,
  evaluateEvery: 0,
  evaluationSamples: 0,
  finalEvaluationSamples: 0,
  strict: true,
  guard: "refuse",
  minLeaseMs: 1000,
  probeEveryMs: 30_000,
};
