import * as fc from "fast-check";
import { expect, test } from "vitest";
import { describeNorm, weigh } from "../../../coordinator/round/normGuard.ts";
import type { NormBounds } from "../../../coordinator/round/normGuard.ts";
import { roundStep } from "../../../coordinator/round/round.ts";
import { initialRound } from "../../../coordinator/round/roundState.ts";
import type { RoundConfig, RoundEvent } from "../../../coordinator/round/roundState.ts";
import { randomUniform, streamKey } from "../../../shared/numerics/rng.ts";
import type { Lease } from "../../../shared/wire/protocol.ts";
import { smallRound } from "../../support/roundConfig.ts";

const UNITS = 16;
const TOKENS = 20;

const config: RoundConfig = { ...smallRound, batch: 4 * UNITS, minLeaseMs: 60_000 };

type Fleet = {
  readonly honest: number;
  /** What one more worker multiplies its gradients by; null without one. */
  readonly lie: number | null;
  /** True norm a token of each unit; recent rounds had 1. */
  readonly truth: readonly number[];
};

/**
 * One round in an order drawn by `choose`: the norm that went in for each unit, the largest limit, and how many were refused that
 * were weighed after two workers had agreed.
 */
function playRound({ honest, lie, truth }: Fleet, choose: (limit: number) => number) {
  const names = Array.from({ length: honest }, (_, index) => `honest ${index}`);
  if (lie !== null) names.push("liar");
  const returns: { worker: string; lease: number; unit: number }[] = [];
  const merges: { id: number; norm: number; bounds: NormBounds; agreed: boolean }[] = [];
  const claims = new Map<number, number>();
  let state = initialRound({ version: 0, origin: 0, evaluated: -1, references: [{ perToken: 1, tokens: TOKENS }] });
  let nowMs = 1;
  let largestLimit = 0;
  let refusedLate = 0;
  const send = (event: RoundEvent): void => {
    const step = roundStep(state, event, config, nowMs);
    state = step.state;
    for (const effect of step.effects) {
      if (effect.type === "grant") take(effect.worker, effect.lease);
      if (effect.type !== "merge") continue;
      merges.push({
        id: effect.id,
        norm: claims.get(effect.id)!,
        bounds: effect.bounds,
        agreed: state.agreed !== null,
      });
      largestLimit = Math.max(largestLimit, effect.bounds.limit);
    }
  };
  const take = (worker: string, { lease, firstUnit, units }: Lease): void => {
    for (let unit = firstUnit; unit < firstUnit + units; unit++) returns.push({ worker, lease, unit });
  };
  send({ type: "started" });
  for (const worker of names) {
    send({ type: "joined", worker });
    send({ type: "ready", worker, unitMs: 40 });
  }
  for (let turn = 0; state.phase === "working"; turn++) {
    expect(turn, "turns without an end").toBeLessThan(20_000);
    nowMs += 10;
    const what = choose(3);
    const [merging] = what === 0 && merges.length > 0 ? merges.splice(choose(merges.length), 1) : [];
    const [doing] = what === 1 && returns.length > 0 ? returns.splice(choose(returns.length), 1) : [];
    if (merging !== undefined) {
      const { id, norm, bounds, agreed } = merging;
      const refused = weigh(bounds, norm) === null;
      if (refused && agreed) refusedLate += 1;
      send({ type: "merged", id, norm, refusal: refused ? { code: "norm-outlier", message: describeNorm(norm, bounds.limit) } : null }); // prettier-ignore
    } else if (doing !== undefined) {
      const { worker, lease, unit } = doing;
      const norm = truth[unit]! * TOKENS * (worker === "liar" ? lie! : 1);
      claims.set(turn, norm);
      send({ type: "returned", worker, id: turn, kind: "train", lease, base: 0, firstUnit: unit, units: 1, tokens: TOKENS, lossSum: 1, computeMs: 1 }); // prettier-ignore
    } else send({ type: "pulled", worker: names[choose(names.length)]! });
  }
  const results = [...(state.train?.results ?? [])].sort((a, b) => a.firstUnit - b.firstUnit);
  return { norms: results.map(({ norm }) => norm), largestLimit, refusedLate };
}

const whole = (truth: readonly number[]): number[] => truth.map((perToken) => perToken * TOKENS);

/** A step has made all gradients large: ten to twenty-five times what recent rounds allow is compared with. */
const surge = fc.array(fc.double({ min: 10, max: 25, noNaN: true }), { minLength: UNITS, maxLength: UNITS });
/** Most are ordinary, some truly odd. */
const mixed = fc.array(fc.constantFrom(0.8, 0.9, 1, 1.1, 1.2, 15), { minLength: UNITS, maxLength: UNITS });
const seed = fc.nat();
const drawFrom = (seed: number): ((limit: number) => number) => {
  const key = streamKey(seed, 0x9a4d);
  let drawn = 0;
  return (limit) => Math.floor(randomUniform(key, drawn++) * limit);
};

test("[I1] whoever comes first and however many are refused, each unit goes in once, as it is", () => {
  fc.assert(
    fc.property(fc.oneof(surge, mixed), fc.integer({ min: 1, max: 5 }), seed, (truth, honest, order) => {
      expect(playRound({ honest, lie: null, truth }, drawFrom(order)).norms).toEqual(whole(truth));
    }),
  );
});

test("who sends a thousand times its gradient gains nothing by a round that was found to be large", () => {
  fc.assert(
    fc.property(fc.oneof(surge, mixed), fc.integer({ min: 2, max: 5 }), seed, (truth, honest, order) => {
      const { norms, largestLimit } = playRound({ honest, lie: 1000, truth }, drawFrom(order));
      expect(norms).toEqual(whole(truth));
      // Three times what two workers found.
      expect(largestLimit).toBeLessThanOrEqual(3.0001 * TOKENS * Math.max(1, ...truth));
    }),
  );
});

test("of a round that is large throughout, only what was under way before two workers agreed is computed twice", () => {
  fc.assert(
    fc.property(surge, fc.integer({ min: 2, max: 4 }), seed, (truth, honest, order) => {
      expect(playRound({ honest, lie: null, truth }, drawFrom(order)).refusedLate).toBe(0);
    }),
  );
});
