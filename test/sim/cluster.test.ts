import { describe, expect, test } from "vitest";
import type { RoundConfig } from "../../coordinator/round/roundState.ts";
import { createCluster } from "../support/cluster.ts";
import type { Cluster, SimWorker } from "../support/cluster.ts";

const config: RoundConfig = {
  batch: 22,
  unit: 4,
  evaluationUnit: 8,
  tokensPerSample: 16,
  steps: 12,
  evaluateEvery: 5,
  evaluationSamples: 30,
  finalEvaluationSamples: 50,
  strict: true,
  guard: "refuse",
  minLeaseMs: 2000,
  probeEveryMs: 30_000,
};

/** Every invariant that a finished run must satisfy, whatever happened on the way. */
function checkInvariants(cluster: Cluster, { steps, batch, unit }: RoundConfig, workers: readonly SimWorker[]): void {
  expect(cluster.rounds.map(({ version }) => version)).toEqual(Array.from({ length: steps }, (_, index) => index + 1));
  for (const { version, origin, tokens } of cluster.rounds) {
    expect(origin).toBe((version - 1) * batch);
    expect(tokens).toBe(batch * config.tokensPerSample);
    const units = (cluster.contributions.get(version) ?? []).flatMap(({ firstUnit, units }) => Array.from({ length: units }, (_, index) => firstUnit + index)); // prettier-ignore
    expect(units.sort((a, b) => a - b)).toEqual(Array.from({ length: Math.ceil(batch / unit) }, (_, index) => index));
  }
  expect(cluster.hash(), "[I1] the same θ as an undisturbed run").toBe(cluster.reference.rounds.at(-1)?.hash);
  for (const worker of workers) {
    const held = worker.session().state().held;
    if (held === null || held.version === 0) continue;
    expect(held.hash, "[I3] every worker holds the published θ").toBe(cluster.rounds[held.version - 1]?.hash);
  }
  const { merging, leases } = cluster.run().state();
  expect(merging.size, "[I5] nothing is left in the merge").toBe(0);
  expect(leases.size, "[I5] no lease outlives its round").toBe(0);
}

describe("[I1] the update depends on the samples, not on who computed them", () => {
  for (const strict of [true, false]) {
    test.each([1, 2, 3, 8])(`%i workers, ${strict ? "strict" : "folded"}`, async (count) => {
      const round = { ...config, strict };
      const cluster = await createCluster(round, count);
      const workers = Array.from({ length: count }, (_, index) => cluster.add({ name: `worker ${index}`, unitMs: 10 + 3 * index })); // prettier-ignore
      await cluster.clock.runUntil(cluster.finished, 60_000);
      checkInvariants(cluster, round, workers);
      expect(cluster.evaluations.map(({ version, samples }) => [version, samples])).toEqual([[0, 30], [5, 30], [10, 30], [12, 50]]); // prettier-ignore
      // Only who joins a round that is handed out already, or is not known yet, has something computed twice.
      const { refused, speculative, expired } = cluster.run().state().counts;
      expect(refused).toBeLessThanOrEqual(speculative);
      expect(speculative).toBeLessThanOrEqual(3 * count);
      expect(expired).toBe(0);
    });
  }
});

test("a round commits when the last holdout leaves", async () => {
  const cluster = await createCluster(config, 1);
  cluster.add({ name: "steady", unitMs: 10 });
  const holdout = cluster.add({ name: "holdout", unitMs: 10, behaviour: () => "hang" });
  await cluster.clock.runUntil(() => cluster.rounds.length >= 1, 60_000);
  holdout.kill();
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, config, []);
});

test("a worker that never answers costs a copy, not the round", async () => {
  const cluster = await createCluster(config, 2);
  cluster.add({ name: "steady", unitMs: 10 });
  cluster.add({ name: "stuck", unitMs: 10, behaviour: () => "hang" });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, config, []);
  expect(cluster.run().state().counts.speculative).toBeGreaterThan(0);
  // Twelve rounds of six 10 ms units: a second of waiting in all would mean that deadlines, not copies, ended rounds.
  expect(cluster.clock.nowMs()).toBeLessThan(2000);
});

test("garbage is refused, counted, and its units are computed by somebody else", async () => {
  const cluster = await createCluster(config, 3);
  const steady = cluster.add({ name: "steady", unitMs: 10 });
  cluster.add({ name: "liar", unitMs: 10, behaviour: () => "garbage" });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, config, [steady]);
  expect(cluster.garbageRefused()).toBeGreaterThan(0);
  // Besides: losses that are not finite, which never reach the merge.
  expect(cluster.run().status().refusals["not-finite"]).toBeGreaterThanOrEqual(cluster.garbageRefused());
});

test("a worker joining half-way contributes; one that is 100 times slower does not hold the rounds", async () => {
  const round = { ...config, steps: 40 };
  const cluster = await createCluster(round, 4);
  cluster.add({ name: "first", unitMs: 10 });
  await cluster.clock.runUntil(() => cluster.rounds.length >= 10, 60_000);
  const beforeMs = cluster.clock.nowMs();
  const late = cluster.add({ name: "late", unitMs: 10 });
  const slow = cluster.add({ name: "slow", unitMs: 1000 });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, round, [late, slow]);
  const tokens = Object.fromEntries(
    cluster
      .run()
      .status()
      .workers.map(({ name, tokens }) => [name, tokens]),
  );
  expect(tokens["late"]).toBeGreaterThan(0.3 * tokens["first"]!);
  // Thirty rounds alone would take 30 · 6 · 10 ms; two workers must not be slower than one because of the third.
  expect(cluster.clock.nowMs() - beforeMs).toBeLessThan(30 * 60 + 1000);
});

test.each([2, 4, 5])("%i equal workers share a round of few long units: nobody waits for who waits", async (count) => {
  // As many units as workers, each far longer than any jitter: one that thinks the others would be faster must be wrong.
  const round = { ...config, batch: 16, evaluateEvery: 0, finalEvaluationSamples: 0 };
  const cluster = await createCluster(round, count);
  for (let index = 0; index < count; index++) cluster.add({ name: `worker ${index}`, unitMs: 500 + index });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, round, []);
  // Twelve rounds of at most ⌈4/count⌉ units in a row, the first joins and loads apart.
  expect(cluster.clock.nowMs()).toBeLessThan(3000 + 12 * 1.5 * 500 * Math.ceil(4 / count));
});

test("the coordinator comes back at the last committed round, and its workers with it", async () => {
  const cluster = await createCluster(config, 5);
  const workers = ["a", "b", "c"].map((name) => cluster.add({ name, unitMs: 10 }));
  await cluster.clock.runUntil(() => cluster.rounds.length >= 4, 60_000);
  const identities = workers.map((worker) => worker.session().state().identity);
  cluster.restart();
  await cluster.clock.runUntil(cluster.finished, 120_000);
  checkInvariants(cluster, config, workers);
  expect(workers.map((worker) => worker.session().state().identity)).toEqual(identities);
});

test("an operator's pause holds every worker, outlives the coordinator, and costs nothing but the time", async () => {
  const cluster = await createCluster(config, 6);
  const workers = ["a", "b", "c"].map((name) => cluster.add({ name, unitMs: 10 }));
  await cluster.clock.runUntil(() => cluster.rounds.length >= 3, 60_000);
  cluster.run().pause("operator", "the operator: moving the machine");
  await cluster.clock.runUntil(() => cluster.clock.nowMs() > 5000, 60_000);
  const [held, status] = [cluster.rounds.length, cluster.run().status()];
  // What was leased when the pause came may have completed one round.
  expect(held).toBeLessThanOrEqual(4);
  expect(status).toMatchObject({ phase: "paused", reason: "paused: the operator: moving the machine", paused: { operator: "the operator: moving the machine" } }); // prettier-ignore
  expect(status.workers.map(({ waitingReason }) => waitingReason)).toEqual(Array(3).fill(status.reason));
  cluster.restart();
  await cluster.clock.runUntil(() => cluster.clock.nowMs() > 20_000, 60_000);
  expect(cluster.rounds.length).toBe(held);
  expect(cluster.run().status()).toMatchObject({ phase: "paused", workers: [{ state: "ready" }, { state: "ready" }, { state: "ready" }] }); // prettier-ignore
  expect(cluster.run().resume("operator")).toBe(true);
  expect(cluster.run().resume("operator")).toBe(false);
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, config, workers);
});

test("[P17] a machine that computes wrong gets no lease; with another engine that is right it does; with none it ends", async () => {
  const cluster = await createCluster(config, 8);
  const steady = cluster.add({ name: "steady", unitMs: 10 });
  const second = cluster.add({ name: "second", unitMs: 10, engines: ["wrong", "right"] });
  const broken = cluster.add({ name: "broken", unitMs: 10, engines: ["wrong", "wrong"] });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, config, [steady, second]);
  const contributors = new Set([...cluster.contributions.values()].flat().map(({ worker }) => worker));
  expect(contributors).toEqual(new Set([idOf(steady), idOf(second)]));
  expect(cluster.run().status().refusals["wrong-answer"]).toBe(3);
  expect(broken.session().state().phase).toMatchObject({ name: "ended", ok: false, reason: expect.stringMatching(/^no engine left: on a known batch the loss is off by 0\.0e\+0 and the gradient of [a-z0-9._]+ by 2\.\de\+0/) }); // prettier-ignore
  expect(
    cluster
      .run()
      .status()
      .workers.find(({ name }) => name === "second")?.fallbacks,
  ).toHaveLength(1);
});

const idOf = (worker: SimWorker | undefined): string => worker?.session().state().identity?.worker ?? "";

test("a kicked worker comes back as itself; a banned one ends, and is refused as the same worker later", async () => {
  const cluster = await createCluster({ ...config, steps: 60 }, 7);
  const workers = ["steady", "kicked", "banned"].map((name) => cluster.add({ name, unitMs: 10 }));
  const [, kicked, banned] = workers;
  await cluster.clock.runUntil(() => cluster.rounds.length >= 3, 60_000);
  const [kickedId, bannedId] = [idOf(kicked), idOf(banned)];
  expect(cluster.run().kick(kickedId, "a test")).toBe(true);
  expect(cluster.run().kick("nobody", "a test")).toBe(false);
  expect(cluster.run().ban(bannedId, "a test")).toBe(true);
  expect(cluster.run().ban(bannedId, "again")).toBe(false);
  expect([...cluster.run().state().workers.keys()]).toEqual([idOf(workers[0])]);
  // A round's leases went back with them.
  await cluster.clock.runUntil(() => cluster.rounds.length >= 30, 60_000);
  expect(cluster.run().state().workers.get(kickedId)?.ready).toBe(true);
  expect(idOf(kicked)).toBe(kickedId);
  expect(banned?.session().state().phase).toEqual({ name: "ended", reason: "banned: banned by the operator: a test", ok: false }); // prettier-ignore
  expect(cluster.run().status().refusals).toMatchObject({ kicked: 1, banned: 1 });
  const again = cluster.add({ name: "again", unitMs: 10, identity: banned?.session().state().identity ?? null });
  await cluster.clock.runUntil(() => again.session().state().phase.name === "ended", 60_000);
  expect(again.session().state().phase).toMatchObject({ ok: false, reason: "banned: banned by the operator" });
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, { ...config, steps: 60 }, workers.slice(0, 2));
});

test("[I4] a ban and its end hold at once on a full disk, and are written when there is room", async () => {
  const cluster = await createCluster({ ...config, steps: 60 }, 11);
  const workers = ["steady", "banned", "spared"].map((name) => cluster.add({ name, unitMs: 10 }));
  const [steady, banned, spared] = workers;
  await cluster.clock.runUntil(() => cluster.rounds.length >= 3, 60_000);
  cluster.fillDisk(true);
  expect(cluster.run().ban(idOf(banned), "a test")).toBe(true);
  expect(cluster.run().ban("stranger", "a test")).toBe(false);
  expect([cluster.run().unban("stranger"), cluster.run().unban("stranger"), cluster.run().unban(idOf(spared))]).toEqual([true, false, false]); // prettier-ignore
  const again = cluster.add({ name: "again", unitMs: 10, identity: banned?.session().state().identity ?? null });
  await cluster.clock.runUntil(() => again.session().state().phase.name === "ended", 60_000);
  expect(again.session().state().phase).toMatchObject({ reason: "banned: banned by the operator" });
  cluster.fillDisk(false);
  await cluster.clock.runUntil(() => cluster.rounds.length >= 30, 60_000);
  cluster.restart();
  await cluster.clock.runUntil(() => cluster.rounds.length >= 33, 60_000);
  expect(cluster.run().bans()).toMatchObject([{ worker: idOf(banned), reason: "a test" }]);
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, { ...config, steps: 60 }, [steady!, spared!]);
});

test("who is far behind gets a snapshot once, who has loaded it the updates since, however fast the rounds are", async () => {
  const round = { ...config, steps: 300, evaluateEvery: 0 };
  const sent: string[] = [];
  const cluster = await createCluster(round, 11, {
    mutation: {
      ports: (ports) => ({
        ...ports,
        send(worker, message, payload) {
          if (worker === "w2" && (message.type === "snapshot" || message.type === "update")) sent.push(message.type);
          ports.send(worker, message, payload);
        },
      }),
    },
  });
  const fast = cluster.add({ name: "fast", unitMs: 10 });
  await cluster.clock.runUntil(() => cluster.rounds.length === 3, 60_000);
  // Its examination takes more than ten rounds of the fast one: more bytes than the snapshot it was given at its welcome.
  const late = cluster.add({ name: "late", unitMs: 600 });
  await cluster.clock.runUntil(() => cluster.run().state().workers.get("w2")?.ready === true, 60_000);
  expect(sent.length).toBeGreaterThan(5);
  expect(new Set(sent)).toEqual(new Set(["update"]));
  sent.length = 0;
  const { version } = cluster.run().state();
  late.partition(true);
  await cluster.clock.runUntil(() => cluster.run().state().workers.get("w2") === undefined, 60_000);
  expect(cluster.run().state().version - version).toBeGreaterThan(2);
  late.partition(false);
  await cluster.clock.runUntil(() => cluster.run().state().workers.get("w2")?.ready === true, 60_000);
  expect(sent.filter((type) => type === "snapshot")).toHaveLength(1);
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, round, [fast, late]);
});

test("[I4] nobody is told that the run is finished before its last evaluation is written", async () => {
  const round = { ...config, steps: 3 };
  const cluster = await createCluster(round, 9);
  const worker = cluster.add({ name: "only", unitMs: 10 });
  await cluster.clock.runUntil(() => cluster.rounds.length === 3, 60_000);
  cluster.fillDisk(true);
  await cluster.clock.runUntil(() => cluster.run().state().phase === "finished", 60_000);
  await cluster.clock.runUntil(() => cluster.clock.nowMs() > 5000, 60_000);
  expect(cluster.finished()).toBe(false);
  cluster.restart();
  cluster.fillDisk(false);
  await cluster.clock.runUntil(cluster.finished, 60_000);
  checkInvariants(cluster, round, [worker]);
  expect(cluster.evaluations.at(-1)).toMatchObject({ version: 3, samples: 50 });
});

test.each([true, false])(
  "strangers that take units and deliver nothing cost honest workers less than a tenth (strict: %s)",
  async (strict) => {
    const round = { ...config, strict, batch: 32, steps: 1000, evaluateEvery: 0, finalEvaluationSamples: 0 };
    const roundsIn = async (seconds: number, strangers: number): Promise<number> => {
      const cluster = await createCluster(round, 7);
      for (const name of ["a", "b"]) cluster.add({ name, unitMs: 60 });
      await cluster.clock.runUntil(() => cluster.rounds.length >= 3, 60_000);
      const [began, beganMs] = [cluster.rounds.length, cluster.clock.nowMs()];
      const nextStranger = (index: number): void => {
        // Each says that it is fast, asks at once, takes what it gets, and is gone when it might be missed; some stay.
        const stranger = cluster.add({ name: `stranger ${index}`, unitMs: 1, behaviour: () => "hang" });
        if (index % 10 > 0) cluster.clock.after(50 + 37 * (index % 20), () => stranger.kill());
        cluster.clock.after(500 / strangers, () => nextStranger(index + 1));
      };
      if (strangers > 0) nextStranger(0);
      await cluster.clock.runUntil(() => cluster.clock.nowMs() >= beganMs + 1000 * seconds, 1e6);
      return cluster.rounds.length - began;
    };
    const peace = await roundsIn(6, 0);
    expect(peace).toBeGreaterThan(20);
    for (const strangers of [1, 10, 40])
      expect(await roundsIn(6, strangers), `${strangers}`).toBeGreaterThanOrEqual(0.9 * peace);
  },
);
