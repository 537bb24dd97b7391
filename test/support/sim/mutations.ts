/**
 * @file Planted bugs: each breaks one promise, and the simulator must notice within a few seeds. A check that none of these
 * can make fail would check nothing.
 */
import { DONE, FREE, LEASED, withStatus } from "../../../coordinator/round/pool.ts";
import type { RoundEvent, RoundState, RoundStep } from "../../../coordinator/round/roundState.ts";
import type { Mutation } from "../cluster.ts";
import type { Violation } from "./violation.ts";

export type NamedMutation = {
  readonly name: string;
  readonly breaks: Violation["id"];
  readonly mutation: Mutation;
};

/** Changes what the reducer made of an event. */
function afterStep(change: (step: RoundStep, event: RoundEvent, before: RoundState) => RoundStep): Mutation {
  return {
    reduce: (reduce) => (state, event, config, nowMs) => change(reduce(state, event, config, nowMs), event, state),
  };
}

/** Sets units of the training pool whose status is `from` and for which `picks` says so. */
function setUnits(state: RoundState, from: number, to: number, picks: (unit: number) => boolean): RoundState {
  let train = state.train;
  if (train === null) return state;
  for (const [unit, status] of train.status.entries()) if (status === from && picks(unit)) train = withStatus(train, unit, 1, to); // prettier-ignore
  const doneUnits = train.status.reduce((sum, status) => sum + (status === DONE ? 1 : 0), 0);
  return { ...state, train: { ...train, doneUnits } };
}

export const mutations: readonly NamedMutation[] = [
  {
    name: "adds a result that somebody else returned first",
    breaks: "I1",
    mutation: {
      reduce: (reduce) => (state, event, config, nowMs) => {
        const step = reduce(state, event, config, nowMs);
        const taken = step.effects.some((effect) => effect.type === "refuse" && effect.code === "already-done");
        if (event.type !== "returned" || event.kind !== "train" || !taken) return step;
        const { id, firstUnit, units } = event;
        return { ...step, effects: step.effects.map((effect) => (effect.type === "discard" ? { type: "merge" as const, id, firstUnit, units, bounds: { limit: Infinity, confirmed: 0, clipTo: null } } : effect)) }; // prettier-ignore
      },
      ports: (ports, optimizer) => ({
        ...ports,
        // The merge itself refuses it, too: two guards have to fail.
        merge: async (part) => {
          const payload = part.payload.slice();
          const result = await ports.merge(part);
          if (result.refusal?.code !== "already-done") return result;
          optimizer.addUnchecked(payload);
          return { norm: 0, refusal: null };
        },
      }),
    },
  },
  {
    name: "adds in the order of arrival",
    breaks: "I1",
    mutation: {
      ports: (ports, optimizer) => ({
        ...ports,
        merge: async (part) => ({ norm: 0, refusal: optimizer.check(part.payload) ?? optimizer.addAsItComes(part) }),
      }),
    },
  },
  {
    name: "takes the units of an expired lease for done",
    breaks: "I2",
    mutation: afterStep((step, _, before) =>
      step.state.counts.expired > before.counts.expired
        ? { ...step, state: setUnits(step.state, FREE, DONE, (unit) => before.train?.status[unit] === LEASED) }
        : step,
    ),
  },
  {
    name: "loses the units of a worker that leaves",
    breaks: "I2",
    mutation: afterStep((step, event, before) =>
      event.type === "left"
        ? { ...step, state: setUnits(step.state, FREE, LEASED, (unit) => before.train?.status[unit] === LEASED) }
        : step,
    ),
  },
  {
    name: "grants a unit that is done",
    breaks: "I2",
    mutation: afterStep((step, event) =>
      event.type === "ready" ? { ...step, state: setUnits(step.state, DONE, FREE, (unit) => unit === 0) } : step,
    ),
  },
  {
    name: "goes on one round too far after a restart",
    breaks: "I2",
    mutation: afterStep((step, event, before) =>
      event.type === "started" && before.version > 0
        ? { ...step, state: { ...step.state, origin: before.origin + 1, train: { ...step.state.train!, origin: before.origin + 1 } } } // prettier-ignore
        : step,
    ),
  },
  {
    name: "one worker's θ changes in its memory",
    breaks: "I3",
    mutation: {
      worker: (options, index) =>
        index === 1
          ? {
              ...options,
              spoilTheta: (params) => {
                params[5]! += 1e-3;
              },
            }
          : options,
    },
  },
  {
    name: "keeps the leases of workers that left",
    breaks: "I5",
    mutation: afterStep((step, event, before) => {
      if (event.type !== "left" || step.state.phase !== "working") return step;
      const leaked = [...before.leases].filter(([, { worker }]) => worker === event.worker).map(([id, lease]) => [id, { ...lease, expired: true }] as const); // prettier-ignore
      return { ...step, state: { ...step.state, leases: new Map([...step.state.leases, ...leaked]) } };
    }),
  },
  {
    name: "keeps the payloads of refused results",
    breaks: "I5",
    mutation: afterStep((step) => ({ ...step, effects: step.effects.filter(({ type }) => type !== "discard") })),
  },
  {
    name: "never expires a lease",
    breaks: "progress",
    mutation: {
      reduce: (reduce) => (state, event, config, nowMs) =>
        reduce(
          {
            ...state,
            leases: new Map([...state.leases].map(([id, lease]) => [id, { ...lease, deadlineMs: Infinity }])),
          },
          event,
          { ...config, minLeaseMs: 1e12 },
          nowMs,
        ),
    },
  },
];
