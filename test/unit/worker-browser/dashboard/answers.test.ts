import { describe, expect, test } from "vitest";
import type { Curves } from "../../../../shared/wire/dashboard.ts";
import type { Status, WorkerStatus } from "../../../../shared/wire/status.ts";
import { efficiencies, health, learning, scale, slow } from "../../../../worker-browser/dashboard/answers.ts";

function curvesOf(points: number, change: Partial<Curves> = {}): Curves {
  const column = (value: (i: number) => number): number[] => Array.from({ length: points }, (_, i) => value(i));
  const zeros = column(() => 0);
  return {
    from: 1,
    to: points,
    span: 1,
    newest: points,
    version: column((i) => i + 1),
    atMs: column((i) => 1000 * (i + 1)),
    loss: column((i) => 5 - 0.02 * i),
    lossMin: zeros,
    lossMax: zeros,
    gradientNorm: zeros,
    gradientNormMin: zeros,
    gradientNormMax: zeros,
    learningRate: zeros,
    tokensPerSecond: zeros,
    bytesInPerSecond: zeros,
    bytesOutPerSecond: zeros,
    roundMs: column(() => 1000),
    computeMs: column(() => 800),
    commitMs: column(() => 50),
    workers: column(() => 4),
    evaluations: { version: [points], loss: [4] },
    ...change,
  };
}

function worker(id: string, tokensPerSecond: number, change: Partial<WorkerStatus> = {}): WorkerStatus {
  return { worker: id, name: id, kind: "node", device: "", state: "ready", backend: "onnx", fallbacks: [], tokens: 0, tokensPerSecond, share: 0, refused: 0, waitingReason: "", behind: 0, leases: 1, strikes: 0, ...change }; // prettier-ignore
}

function statusOf(workers: readonly WorkerStatus[], change: Partial<Status> = {}): Status {
  return { run: "r", about: null, corpus: "a text", paused: {}, hash: "00ff00ff00ff00ff", phase: "working", reason: "", version: 100, steps: 1000, parameters: 1, tokens: 1, tokensPerSecond: 1, trainLoss: 1, validationLoss: 1, learningRate: 1, gradientNorm: 1, codec: "f32", strict: true, counts: {}, refusals: {}, workers, ...change }; // prettier-ignore
}

const two = [worker("a", 10), worker("b", 10)];

/** So long after the last round. */
function at(afterMs: number): Parameters<typeof health>[2] {
  return { isLost: false, nowMs: 100_000 + afterMs, lastRoundMs: 100_000 };
}

describe("is it healthy", () => {
  const curves = curvesOf(100);

  test("yes while rounds come at their pace; no word of it when the coordinator does not answer", () => {
    expect(health(statusOf(two), curves, at(900))).toEqual({ tone: "good", is: "working", workers: 2, roundMs: 1000 }); // prettier-ignore
    expect(health(statusOf(two), curves, { ...at(0), isLost: true })).toEqual({ tone: "bad", is: "unreachable" });
    expect(health(null, null, at(0)).is).toBe("unknown");
  });

  test("a run without rounds for much longer than they take is stalled", () => {
    expect(health(statusOf(two), curves, at(16_000))).toMatchObject({ tone: "warn", is: "stalled", forMs: 16_000 });
    expect(health(statusOf(two), { ...curves, roundMs: curves.roundMs.map(() => 4000) }, at(16_000)).is).toBe("working"); // prettier-ignore
  });

  test("pause, end, failure and the lack of workers are each told", () => {
    expect(health(statusOf(two, { phase: "paused" }), curves, at(0)).is).toBe("paused");
    expect(health(statusOf(two, { phase: "finished" }), curves, at(0)).is).toBe("finished");
    expect(health(statusOf(two, { phase: "failed" }), curves, at(0)).is).toBe("failed");
    expect(health(statusOf(two, { workers: [] }), curves, at(0)).is).toBe("noWorkers");
    expect(health(statusOf([worker("a", 0, { state: "joining" })]), curves, at(0)).is).toBe("joining");
  });
});

describe("is it learning", () => {
  test("the last tenth against the tenth before, with the gap to validation", () => {
    const found = learning(curvesOf(100));
    // Means of 10 points each, 10 apart on a slope of −0.02.
    expect(found).toMatchObject({ tone: "good", is: "falling", rounds: 10 });
    if (found.is === "unknown") return;
    expect(found.change).toBeCloseTo(-0.2, 9);
    expect(found.loss).toBeCloseTo(5 - 0.02 * 94.5, 9);
    expect(found.gap).toBeCloseTo(4 - found.loss, 9);
  });

  test("a rise is a rise, and what is no more than noise is flat", () => {
    const version = curvesOf(100).version;
    expect(learning(curvesOf(100, { loss: version.map((i) => 2 + 0.01 * i) })).is).toBe("rising");
    const noisy = version.map((i) => 2 + (i % 2 === 0 ? 0.1 : -0.1) - 0.0001 * i);
    expect(learning(curvesOf(100, { loss: noisy })).is).toBe("flat");
    expect(learning(curvesOf(3)).is).toBe("unknown");
  });
});

test("who is slow: under a third of the median, slowest first, and who waits for that reason", () => {
  const held = worker("phone", 0, { waitingReason: "the smallest piece of work takes this device 10 s, the others …" });
  const found = slow(statusOf([worker("a", 90), worker("old", 29), worker("b", 100), worker("c", 110), held, worker("new", 0, { state: "joining" })])); // prettier-ignore
  expect(found).toMatchObject({ tone: "warn", waiting: 1, medianTokensPerSecond: 90 });
  expect(found.workers.map((one) => one.worker.worker)).toEqual(["phone", "old"]);
  expect(found.workers[1]?.ofMedian).toBeCloseTo(29 / 90, 9);
  expect(slow(statusOf([worker("a", 90), worker("b", 31)]))).toMatchObject({ tone: "good", workers: [] });
  expect(slow(statusOf([])).tone).toBe("unknown");
});

test("what more workers bring: Amdahl's law on the part that is computing, and what was measured", () => {
  const scaling = [
    { workers: 1, rounds: 2, tokens: 1, roundMs: 1 },
    { workers: 2, rounds: 10, tokens: 2000, roundMs: 1000 },
    { workers: 8, rounds: 10, tokens: 6000, roundMs: 1000 },
  ];
  const found = scale(curvesOf(100), scaling);
  expect(found).toMatchObject({ is: "known", tone: "good", computing: 0.8, workers: 4 });
  if (found.is === "unknown") return;
  expect(found.twice).toBeCloseTo(1 / (0.2 + 0.4), 9);
  expect(found.efficiency).toBeCloseTo(6000 / 8000, 9);
  // One worker was there for two rounds only: chance.
  expect(efficiencies(scaling).map(({ workers, ideal }) => [workers, ideal])).toEqual([[2, 2000], [8, 8000]]); // prettier-ignore
  expect(scale(null, []).is).toBe("unknown");
});
