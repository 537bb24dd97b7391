import { describe, expect, test } from "vitest";
import type { Lease } from "../../../shared/wire/protocol.ts";
import { DISK_RETRY_MS, roundStep } from "../../../coordinator/round/round.ts";
import { initialRound } from "../../../coordinator/round/roundState.ts";
import type {
  ResultEvent,
  RoundConfig,
  RoundEffect,
  RoundEvent,
  RoundState,
} from "../../../coordinator/round/roundState.ts";
import { smallRound as config } from "../../support/roundConfig.ts";

/** The reducer with its state in hand: each call is one event, and returns what it led to. */
function driver(overrides: Partial<RoundConfig> = {}) {
  const used = { ...config, ...overrides };
  let state: RoundState = initialRound({ version: 0, origin: 0, evaluated: -1 });
  let id = 0;
  /** Leases granted and not yet taken by `pull`: an open pull is answered by whatever event makes it possible. */
  const granted: Lease[] = [];
  const send = (event: RoundEvent, nowMs = 1): { effects: readonly RoundEffect[]; reason: string } => {
    const step = roundStep(state, event, used, nowMs);
    state = step.state;
    for (const effect of step.effects) if (effect.type === "grant") granted.push(effect.lease);
    return step;
  };
  send({ type: "started" });
  const join = (worker: string, unitMs = 40, nowMs = 1): void => {
    send({ type: "joined", worker }, nowMs);
    send({ type: "ready", worker, unitMs }, nowMs);
  };
  const pull = (worker: string, nowMs = 1): Lease | null => {
    if (granted.length === 0) send({ type: "pulled", worker }, nowMs);
    return granted.shift() ?? null;
  };
  /** An honest result for one unit, with anything about it changed. */
  const give = (worker: string, lease: number, firstUnit: number, change: Partial<ResultEvent> = {}, nowMs = 50) => {
    const samples = Math.min(used.batch, (firstUnit + 1) * used.unit) - firstUnit * used.unit;
    id += 1;
    const base = {
      type: "returned",
      worker,
      id,
      kind: "train",
      lease,
      base: state.version,
      firstUnit,
      units: 1,
    } as const;
    return send({ ...base, tokens: samples * used.tokensPerSample, lossSum: 2, computeMs: 1, ...change }, nowMs);
  };
  const merged = (refusal: { code: "not-finite"; message: string } | null = null, nowMs = 50) =>
    send({ type: "merged", id, refusal, norm: 1 }, nowMs);
  return { send, join, pull, give, merged, state: () => state };
}

const boundsOf = (effects: readonly RoundEffect[]) =>
  effects.flatMap((effect) => (effect.type === "merge" ? [effect.bounds] : []))[0];

describe("contributions whose norm is far above recent ones", () => {
  const reference = { type: "reference", reference: { perToken: 2, tokens: 20 } } as const;
  const outlier = { code: "norm-outlier", message: "too large" } as const;
  const mergedAs = (
    run: ReturnType<typeof driver>,
    id: number,
    norm: number,
    refusal: typeof outlier | null,
    nowMs = 50,
  ) => run.send({ type: "merged", id, norm, refusal }, nowMs);

  test("the limit is the reference's, fixed before the round opens, the same for whoever computes a unit", () => {
    const run = driver();
    run.send(reference);
    run.join("a");
    run.join("b");
    const [first, second] = [run.pull("a")!, run.pull("b")!];
    // 3 · 2 · 20 tokens; the last unit has 10 tokens, so its norm a token may be √2 times as large.
    expect(boundsOf(run.give("a", first.lease, 0).effects)).toEqual({ limit: 120, confirmed: 0, clipTo: null });
    mergedAs(run, 1, 119, null);
    run.send(reference);
    run.send({ type: "reference", reference: { perToken: 9, tokens: 20 } });
    expect(boundsOf(run.give("b", second.lease, second.firstUnit).effects)?.limit).toBeCloseTo(120, 9);
    const third = run.pull("a")!;
    expect(third.firstUnit).toBe(2);
    expect(boundsOf(run.give("a", third.lease, 2).effects)?.limit).toBeCloseTo(60 * Math.SQRT2, 9);
  });

  test("a refused unit goes to somebody else, whose equal answer is believed; the first worker is absolved", () => {
    const run = driver({ minLeaseMs: 10_000 });
    run.send(reference);
    run.join("a");
    run.join("b");
    const lease = run.pull("a")!.lease;
    run.give("a", lease, 0);
    expect(refusals(mergedAs(run, 1, 900, outlier).effects)).toEqual(["norm-outlier"]);
    expect(run.state().workers.get("a")).toMatchObject({ strikes: 1, suspendedUntilMs: 1050 });
    // Later, when "a" may work again: not this unit.
    const barred = run.pull("a", 2000);
    expect(barred?.firstUnit).not.toBe(0);
    const again = run.pull("b", 2000)!;
    expect(again.firstUnit).toBe(0);
    const { confirmed } = boundsOf(run.give("b", again.lease, 0, {}, 2000).effects)!;
    expect(confirmed).toBe(900);
    mergedAs(run, 2, 901, null, 2000);
    expect(run.state().counts).toMatchObject({ confirmed: 1, clipped: 0 });
    expect(run.state().workers.get("a")).toMatchObject({ strikes: 0, suspendedUntilMs: 0 });
  });

  test("where one step made every gradient large, those that pause for it confirm each other at once", () => {
    const run = driver({ minLeaseMs: 10_000 });
    run.send(reference);
    run.join("a");
    run.join("b");
    const [first, second] = [run.pull("a")!, run.pull("b")!];
    run.give("a", first.lease, 0);
    mergedAs(run, 1, 900, outlier);
    run.give("b", second.lease, second.firstUnit);
    mergedAs(run, 2, 900, outlier);
    // Both pause for a second, and each gets the unit of the other.
    expect(run.pull("b", 60)).toMatchObject({ firstUnit: 0, units: 1 });
    const checked = run.pull("a", 60)!;
    expect(checked).toMatchObject({ firstUnit: second.firstUnit, units: 1 });
    run.give("a", checked.lease, checked.firstUnit, {}, 70);
    mergedAs(run, 3, 900, null, 70);
    for (const name of ["a", "b"])
      expect(run.state().workers.get(name)).toMatchObject({ strikes: 0, suspendedUntilMs: 0 });
  });

  test("who is blamed for more than this round's norms, or was refused for the unit itself, pauses", () => {
    const run = driver({ minLeaseMs: 10_000 });
    run.send(reference);
    for (const name of ["a", "b", "c"]) run.join(name);
    const [first, second] = [run.pull("a")!, run.pull("b")!];
    run.give("a", first.lease, 0);
    run.merged({ code: "not-finite", message: "NaN" });
    run.give("b", second.lease, second.firstUnit);
    mergedAs(run, 2, 900, outlier);
    expect(run.pull("a", 60)).toBeNull();
    expect(run.pull("b", 60)).toBeNull();
  });

  test("a worker without others is believed: asking it again would tell nothing", () => {
    const run = driver();
    run.send(reference);
    run.join("a");
    expect(boundsOf(run.give("a", run.pull("a")!.lease, 0).effects)?.limit).toBe(Infinity);
  });

  test("a worker beside one that hangs is like one without others, once a lease of that one would have expired", () => {
    const run = driver({ minLeaseMs: 1000 });
    run.send(reference);
    run.join("hangs");
    run.join("a");
    run.give("a", run.pull("a")!.lease, 0);
    mergedAs(run, 1, 900, outlier);
    // All that is left but unit 0.
    for (let lease = run.pull("a", 900); lease !== null; lease = run.pull("a", 900))
      expect(lease.firstUnit).not.toBe(0);
    expect(run.pull("a", 1100)).toMatchObject({ firstUnit: 0 });
  });

  test("where the run clips, the contribution counts as an ordinary one, and its worker is told", () => {
    const run = driver({ guard: "clip" });
    run.send(reference);
    run.join("a");
    expect(boundsOf(run.give("a", run.pull("a")!.lease, 0).effects)).toMatchObject({ limit: 120, clipTo: 40 });
    const { effects } = mergedAs(run, 1, 900, null);
    expect(refusals(effects)).toEqual(["norm-clipped"]);
    expect(run.state().counts).toMatchObject({ clipped: 1 });
    expect(run.state().train?.results).toMatchObject([{ firstUnit: 0, norm: 40 }]);
    expect(run.state().workers.get("a")).toMatchObject({ strikes: 1, suspendedUntilMs: 0 });
    const second = run.pull("a")!;
    run.give("a", second.lease, second.firstUnit);
    mergedAs(run, 2, 900, null);
    expect(run.state().workers.get("a")).toMatchObject({ strikes: 2, suspendedUntilMs: 1050 });
  });

  test("committed rounds are what the next ones are compared with: eight of them, their medians", () => {
    const run = driver({ batch: 8, steps: 100, unit: 4 });
    run.send(reference);
    run.join("a");
    let id = 0;
    for (let round = 0; round < 10; round++) {
      for (const unit of [0, 1]) {
        const lease = run.pull("a") ?? { lease: NaN };
        run.give("a", lease.lease, unit);
        mergedAs(run, ++id, 20 * (round + 1), null);
      }
      run.send({ type: "committed", applied: true });
    }
    expect(run.state().references.map(({ perToken }) => perToken)).toEqual([3, 4, 5, 6, 7, 8, 9, 10]);
    expect(run.state().references[0]).toEqual({ perToken: 3, tokens: 20 });
  });

  test("without a guard, or with nothing to compare with, any norm passes", () => {
    for (const run of [driver({ guard: "off" }), driver()]) {
      if (run.state().references.length > 0) run.send(reference);
      run.join("a");
      expect(boundsOf(run.give("a", run.pull("a")!.lease, 0).effects)?.limit).toBe(Infinity);
    }
  });
});

const types = (effects: readonly RoundEffect[]): string[] => effects.map(({ type }) => type);
const refusals = (effects: readonly RoundEffect[]): string[] =>
  effects.flatMap((effect) => (effect.type === "refuse" ? [effect.code] : []));

describe("a round", () => {
  test("is an interval of samples cut into units; the last unit is shorter; its end opens the next interval", () => {
    const { join, pull, give, merged, send, state } = driver();
    join("a");
    const first = pull("a");
    expect(first).toMatchObject({ kind: "train", base: 0, origin: 0, samples: 10, firstUnit: 0, units: 2 });
    const second = pull("a");
    expect(second).toMatchObject({ firstUnit: 2, units: 1 });
    for (const unit of [0, 1]) {
      expect(types(give("a", first!.lease, unit).effects)).toContain("merge");
      merged();
    }
    expect(types(give("a", second!.lease, 2).effects)).toContain("merge");
    const { effects, reason } = merged();
    expect(effects).toContainEqual({
      type: "commit",
      version: 0,
      origin: 0,
      tokens: 50,
      lossSum: 6,
      account: expect.anything() as unknown,
    });
    expect(reason).toBe("committing version 1");
    send({ type: "committed", applied: true });
    expect(state()).toMatchObject({ version: 1, origin: 10, phase: "working" });
    expect(pull("a")).toMatchObject({ base: 1, origin: 10 });
  });

  test("commits once everything is merged, not once everything has arrived", () => {
    const { join, pull, give, merged } = driver({ batch: 8 });
    join("a");
    const lease = pull("a")!.lease;
    give("a", lease, 0);
    const [firstId, second] = [1, pull("a")];
    expect(types(give("a", second!.lease, 1).effects)).not.toContain("commit");
    expect(types(merged().effects)).not.toContain("commit");
    expect(firstId).toBe(1);
  });

  test("[P13] weighs by what was leased: other token counts are refused and the units go back", () => {
    const { join, pull, give, state } = driver();
    join("a");
    const lease = pull("a")!.lease;
    expect(refusals(give("a", lease, 0, { tokens: 1_000_000 }).effects)).toEqual(["wrong-tokens"]);
    expect([...(state().train?.status ?? [])]).toEqual([0, 0, 0]);
    expect(state().workers.get("a")).toMatchObject({ refused: 1, strikes: 1 });
  });

  test("[P14] a contribution that the merge refuses frees its units and makes its worker pause", () => {
    const { join, pull, give, merged, state } = driver();
    join("a");
    join("b");
    const lease = pull("a")!.lease;
    give("a", lease, 0);
    const { effects } = merged({ code: "not-finite", message: "NaN" });
    expect(refusals(effects)).toEqual(["not-finite"]);
    expect(state().train?.status[0]).toBe(0);
    expect(pull("a", 60)).toBeNull();
    expect(pull("b", 60)).toMatchObject({ firstUnit: 0 });
    // A second later it may try again; the second strike costs two.
    expect(state().workers.get("a")?.suspendedUntilMs).toBe(1050);
  });

  test("[P10] the first valid result of a unit wins; a second one is refused and told so", () => {
    const { join, pull, give, merged, send, state } = driver({ batch: 4 });
    join("a");
    const lease = pull("a")!.lease;
    join("b", 1, 2000);
    // The lease expires; b gets the unit; a delivers after all.
    send({ type: "tick" }, 2001);
    const other = pull("b", 2001)!.lease;
    expect(state().counts.expired).toBe(1);
    expect(types(give("a", lease, 0, {}, 2002).effects)).toContain("merge");
    const late = give("b", other, 0, {}, 2003);
    expect(refusals(late.effects)).toEqual(["already-done"]);
    expect(types(late.effects)).toContain("discard");
    expect(merged).toBeDefined();
  });

  test("[I2] a result sent twice stands for one unit: the others of its lease still expire", () => {
    const { join, pull, give, merged, send, state } = driver();
    join("a");
    const lease = pull("a")!;
    expect(lease.units).toBe(2);
    give("a", lease.lease, 0);
    merged();
    expect(refusals(give("a", lease.lease, 0).effects)).toEqual(["already-done"]);
    send({ type: "tick" }, lease.deadlineMs + 1);
    expect([...(state().train?.status ?? [])]).toEqual([3, 0, 0]);
  });

  test("[I2] a unit that was refused and granted again is free when its second holder leaves", () => {
    const { join, pull, give, merged, send, state } = driver();
    join("a");
    join("b");
    const lease = pull("a")!.lease;
    give("a", lease, 0);
    merged({ code: "not-finite", message: "NaN" });
    expect(pull("b", 60)).toMatchObject({ firstUnit: 0 });
    send({ type: "left", worker: "b" }, 70);
    expect(state().train?.status[0]).toBe(0);
  });

  test("[I2] of a folded result that overlaps a merged one, the units that nobody else has go back", () => {
    const { join, pull, give, merged, send, state } = driver({ strict: false });
    const both = { units: 2, tokens: 8 * 5 };
    join("a");
    const late = pull("a")!;
    expect(late).toMatchObject({ firstUnit: 0, units: 3 });
    send({ type: "tick" }, late.deadlineMs + 1);
    join("b", 1, late.deadlineMs + 2);
    const copy = pull("b", late.deadlineMs + 2)!;
    expect(copy).toMatchObject({ firstUnit: 0, units: 3 });
    give("a", late.lease, 0, both, late.deadlineMs + 3);
    merged();
    const { effects } = give("b", copy.lease, 0, { units: 3, tokens: 10 * 5 }, late.deadlineMs + 4);
    expect(refusals(effects)).toEqual(["already-done"]);
    expect([...(state().train?.status ?? [])]).toEqual([3, 3, 0]);
  });

  test("a worker that says twice that it is ready does not lose its open pull", () => {
    const { join, pull, send } = driver({ batch: 4 });
    join("a");
    join("b");
    pull("a");
    expect(pull("b")).toBeNull();
    send({ type: "ready", worker: "b", unitMs: 40 });
    const { effects } = send({ type: "left", worker: "a" });
    expect(effects).toContainEqual(expect.objectContaining({ type: "grant", worker: "b" }));
  });

  test("[P11] a result for another version is refused, and told which is accepted", () => {
    const { join, pull, give } = driver();
    join("a");
    const lease = pull("a")!.lease;
    const { effects } = give("a", lease, 0, { base: 7 });
    expect(effects).toContainEqual(
      expect.objectContaining({ type: "refuse", code: "stale-version", accept: { version: 0, lease } }),
    );
    const { effects: wrong } = give("a", lease, 0, { tokens: 1 });
    expect(wrong).toContainEqual(
      expect.objectContaining({ type: "refuse", code: "wrong-tokens", accept: { version: 0 } }),
    );
  });

  test.each([
    ["a lease that is none", { lease: 999 }],
    ["somebody else's lease", { worker: "b" }],
    ["units beyond the lease", { firstUnit: 2 }],
    ["two units at once, where the run is strict", { units: 2 }],
  ])("%s is refused as unknown-lease", (_, change) => {
    const { join, pull, give } = driver();
    join("a");
    join("b");
    const lease = pull("a")!.lease;
    expect(refusals(give("a", lease, 0, change).effects)).toEqual(["unknown-lease"]);
  });

  test("gives back what a worker had when it leaves, and forgets the worker", () => {
    const { join, pull, send, state } = driver();
    join("a");
    pull("a");
    send({ type: "left", worker: "a" });
    expect([...(state().train?.status ?? [])]).toEqual([0, 0, 0]);
    expect(state().workers.size).toBe(0);
    expect(state().leases.size).toBe(0);
  });

  test("is skipped when the merged gradient is not finite, and the run ends after five in a row", () => {
    const { join, pull, give, merged, send, state } = driver({ batch: 4 });
    join("a");
    for (let skip = 1; skip <= 5; skip++) {
      const lease = pull("a", 100 * skip)!.lease;
      give("a", lease, 0, {}, 100 * skip);
      merged(null, 100 * skip);
      const { effects } = send({ type: "committed", applied: false }, 100 * skip);
      expect(state().version).toBe(0);
      expect(types(effects).includes("fail")).toBe(skip === 5);
    }
    expect(state().phase).toBe("failed");
  });
});

describe("who gets work", () => {
  test("a worker that would end the round later than the others waits, told why, and is tried again after a while", () => {
    const { join, pull, state } = driver({ batch: 400, probeEveryMs: 50 });
    join("fast", 10);
    join("slow", 10_000);
    expect(pull("fast", 0)).toMatchObject({ firstUnit: 0 });
    expect(pull("slow", 1)).toBeNull();
    expect(state().workers.get("slow")?.waitingReason).toMatch(/takes this device 10\.0 s/);
    expect(pull("slow", 51)).toMatchObject({ units: 1 });
  });

  test("where nobody works, nobody is waited for: even the slowest gets a lease", () => {
    const { join, pull, send } = driver({ batch: 400 });
    join("fast", 10);
    join("slow", 10_000);
    const lease = pull("slow", 40_000);
    send({ type: "released", worker: "slow", lease: lease!.lease }, 40_001);
    expect(pull("slow", 40_002)).not.toBeNull();
  });

  test("nobody gets work before it holds the published θ", () => {
    const { send, state } = driver();
    send({ type: "joined", worker: "a" });
    expect(types(send({ type: "pulled", worker: "a" }).effects)).toEqual([]);
    send({ type: "ready", worker: "a", unitMs: 1 });
    send({ type: "unready", worker: "a" });
    expect(types(send({ type: "pulled", worker: "a" }).effects)).toEqual([]);
    expect(state().leases.size).toBe(0);
  });

  test("folded shares are in proportion to speed and taken at once", () => {
    const { join, pull } = driver({ batch: 400, strict: false });
    join("one", 10);
    join("three", 10 / 3);
    // Three quarters, and one for the time until the other asks.
    expect(pull("three")?.units).toBe(76);
    expect(pull("one")?.units).toBe(24);
  });

  test("a late unit is copied by who ends it first, not by who is idle first", () => {
    const { join, pull, give } = driver({ batch: 16, minLeaseMs: 100_000 });
    for (const [worker, unitMs] of [["stalled", 100], ["fast", 100], ["slow", 1000]] as const) join(worker, unitMs); // prettier-ignore
    expect(pull("stalled", 0)).toMatchObject({ units: 2 });
    const first = pull("fast", 0)!;
    give("fast", first.lease, first.firstUnit, {}, 100);
    const second = pull("fast", 2850)!;
    // The last unit that is free is out; the fast one is busy for 50 ms more, and then has the copy sooner.
    expect(pull("slow", 2900)).toBeNull();
    give("fast", second.lease, second.firstUnit, {}, 2950);
    expect(pull("fast", 2951)).toMatchObject({ units: 1, firstUnit: 1 });
  });
});

test("an evaluation is done on the version it names, within its round, and again only when due", () => {
  const evaluating = { batch: 4, evaluateEvery: 2, evaluationSamples: 20, finalEvaluationSamples: 7 };
  const { join, pull, give, merged, send, state } = driver(evaluating);
  join("a");
  const seen: unknown[] = [];
  for (let turn = 0; state().phase !== "finished"; turn++) {
    expect(turn, "turns without an end").toBeLessThan(10);
    for (let lease = pull("a"); lease !== null; lease = pull("a")) {
      for (let unit = lease.firstUnit; unit < lease.firstUnit + lease.units; unit++) {
        const samples = Math.min(lease.samples, (unit + 1) * 8) - unit * 8;
        const change = lease.kind === "train" ? {} : ({ kind: "evaluate", tokens: samples * 5, lossSum: 3 } as const);
        const { effects } = give("a", lease.lease, unit, change);
        seen.push(...effects.filter(({ type }) => type === "evaluated"));
        if (lease.kind === "train") merged();
      }
    }
    if (state().phase === "committing") send({ type: "committed", applied: true });
  }
  expect(seen).toEqual([
    { type: "evaluated", version: 0, lossSum: 9, tokens: 100, samples: 20 },
    { type: "evaluated", version: 2, lossSum: 9, tokens: 100, samples: 20 },
    { type: "evaluated", version: 3, lossSum: 3, tokens: 35, samples: 7 },
  ]);
});

test("who claims speed and delivers nothing keeps no work from who delivers", () => {
  const [units, unitMs] = [16, 40];
  const run = driver({ batch: 4 * units, minLeaseMs: 100_000 });
  run.join("honest", unitMs);
  let nowMs = 1;
  let done = 0;
  let strangers = 0;
  while (run.state().phase === "working" && nowMs < 100 * unitMs * units) {
    // After the first unit of the honest worker, strangers come in, take what they are given and keep it.
    if (done > 0 && strangers < 4) {
      strangers += 1;
      run.join(`stranger ${strangers}`, 0.01, nowMs);
      run.pull(`stranger ${strangers}`, nowMs);
    }
    const lease = run.pull("honest", nowMs);
    if (lease === null) {
      nowMs += 1;
      run.send({ type: "tick" }, nowMs);
      continue;
    }
    for (let unit = lease.firstUnit; unit < lease.firstUnit + lease.units; unit++) {
      nowMs += unitMs;
      run.give("honest", lease.lease, unit, {}, nowMs);
      run.merged(null, nowMs);
      done += 1;
    }
  }
  expect(run.state().phase).toBe("committing");
  expect(nowMs, "as long as if it were alone, and less than one unit in doubt").toBeLessThanOrEqual(
    unitMs * (units + 1),
  );
});

describe("a paused run", () => {
  test("grants nothing, tells who asks why, and goes on where it was", () => {
    const { join, pull, send, state } = driver();
    join("a");
    const before = send({ type: "paused", cause: "operator", reason: "by the operator: new cable" });
    expect(before.reason).toBe("paused: by the operator: new cable");
    const { effects } = send({ type: "pulled", worker: "a" });
    expect(effects).toEqual([{ type: "waiting", worker: "a", reason: "paused: by the operator: new cable" }]);
    expect(send({ type: "tick" }).effects).toEqual([]);
    const after = send({ type: "resumed", cause: "operator" });
    expect(types(after.effects)).toEqual(["grant"]);
    expect(pull("a")).toMatchObject({ firstUnit: 0, units: 2 });
    expect(state().paused.size).toBe(0);
  });

  test("takes in what is in flight, and commits a round that this completes", () => {
    const { join, pull, give, merged, send, state } = driver({ steps: 2 });
    join("a");
    const [first, second] = [pull("a"), pull("a")];
    send({ type: "paused", cause: "operator", reason: "lunch" });
    for (const [lease, unit] of [
      [first!, 0],
      [first!, 1],
      [second!, 2],
    ] as const) {
      // prettier-ignore
      expect(types(give("a", lease.lease, unit).effects)).toEqual(["merge"]);
      merged();
    }
    expect(state().phase).toBe("committing");
    expect(send({ type: "committed", applied: true }).reason).toBe("paused: lunch");
    expect(state()).toMatchObject({ version: 1, phase: "working" });
    expect(types(send({ type: "pulled", worker: "a" }).effects)).toEqual(["waiting"]);
  });

  test("stays paused until its last cause is gone, and names them all", () => {
    const { join, send } = driver();
    join("a");
    send({ type: "paused", cause: "operator", reason: "lunch" });
    expect(send({ type: "paused", cause: "disk", reason: "the disk is full" }).reason).toBe(
      "paused: the disk is full; lunch",
    );
    send({ type: "pulled", worker: "a" });
    expect(types(send({ type: "resumed", cause: "disk" }).effects)).toEqual(["waiting"]);
    expect(types(send({ type: "resumed", cause: "operator" }).effects)).toEqual(["grant"]);
  });

  test("tries again what a full disk refused, at a fixed interval, also while it commits", () => {
    const { send, state } = driver();
    send({ type: "paused", cause: "disk", reason: "full" }, 1000);
    // A second refusal within the same pause does not put the next attempt off.
    send({ type: "paused", cause: "disk", reason: "still full" }, 1000 + DISK_RETRY_MS - 1);
    expect(state().paused.get("disk")).toMatchObject({ sinceMs: 1000, reason: "still full" });
    const attempts = Array.from({ length: 40 }, (_, index) => 1000 + 250 * (index + 1)).filter((nowMs) =>
      types(send({ type: "tick" }, nowMs).effects).includes("retry"),
    );
    expect(attempts).toEqual([1, 2, 3, 4, 5].map((count) => 1000 + count * DISK_RETRY_MS));
    send({ type: "resumed", cause: "disk" });
    expect(send({ type: "tick" }, 99_999).effects).toEqual([]);
  });

  test("does not keep a finished run from ending", () => {
    const { join, pull, give, merged, send, state } = driver({ steps: 1, batch: 4 });
    join("a");
    const lease = pull("a");
    send({ type: "paused", cause: "operator", reason: "lunch" });
    give("a", lease!.lease, 0);
    merged();
    expect(types(send({ type: "committed", applied: true }).effects)).toEqual(["finish"]);
    expect(state().phase).toBe("finished");
  });
});

test("the reducer changes nothing in place: the state before an event stays as it was", () => {
  const before = roundStep(
    initialRound({ version: 0, origin: 0, evaluated: -1 }),
    { type: "started" },
    config,
    1,
  ).state;
  const frozen = structuredClone({ ...before, train: before.train });
  let state = before;
  for (const event of [
    { type: "joined", worker: "a" },
    { type: "ready", worker: "a", unitMs: 5 },
    { type: "pulled", worker: "a" },
    { type: "left", worker: "a" },
  ] as const) {
    state = roundStep(state, event, config, 2).state;
  }
  expect(before).toEqual(frozen);
});
