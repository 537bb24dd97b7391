/**
 * @file The operator's four questions, answered from the run's own figures: is it healthy, is it learning, who is slow, what
 * would more workers bring. Pure; the words are in words.ts.
 */
import type { Curves, ScalingPoint } from "../../shared/wire/dashboard.ts";
import type { Status, WorkerStatus } from "../../shared/wire/status.ts";

export type Tone = "good" | "warn" | "bad" | "unknown";

export type Health =
  | { readonly tone: "good"; readonly is: "working"; readonly workers: number; readonly roundMs: number }
  | { readonly tone: "good"; readonly is: "finished" }
  | { readonly tone: "warn"; readonly is: "paused" | "joining" }
  /** No round was committed for much longer than rounds take. */
  | { readonly tone: "warn"; readonly is: "stalled"; readonly forMs: number; readonly roundMs: number }
  | { readonly tone: "bad"; readonly is: "failed" | "noWorkers" | "unreachable" }
  | { readonly tone: "unknown"; readonly is: "unknown" };

export type Learning =
  | { readonly tone: "unknown"; readonly is: "unknown" }
  | {
      readonly tone: Tone;
      readonly is: "falling" | "flat" | "rising";
      readonly loss: number;
      /** Nats per token, the last tenth of the shown rounds against the tenth before; below 0 is better. */
      readonly change: number;
      readonly rounds: number;
      /** Validation loss less training loss; null before the first evaluation. */
      readonly gap: number | null;
    };

export type Slow = {
  readonly tone: Tone;
  /** Much slower than the median, slowest first; they do not hold the others up, but bring little. */
  readonly workers: readonly { readonly worker: WorkerStatus; readonly ofMedian: number }[];
  /** Told to wait, because the others would have to wait for them. */
  readonly waiting: number;
  readonly medianTokensPerSecond: number | null;
};

export type Scale =
  | { readonly tone: "unknown"; readonly is: "unknown" }
  | {
      readonly tone: Tone;
      readonly is: "known";
      readonly workers: number;
      /** Part of a round that is computing, 0 … 1. */
      readonly computing: number;
      /** Speed with twice the workers over the speed now, if computing halves and the rest stays: Amdahl's law. */
      readonly twice: number;
      /** Speed per worker now over the speed per worker with the fewest that were ever measured; null with one measurement. */
      readonly efficiency: number | null;
    };

/** Rounds vary; beyond this many times their usual length something is wrong. */
const STALLED_ROUNDS = 5;
const STALLED_AT_LEAST_MS = 15_000;

/** Slower than a third of the median stands out. */
const SLOW = 1 / 3;

/** A measurement of fewer rounds is chance. */
const MIN_ROUNDS = 5;

export function health(
  status: Status | null,
  curves: Curves | null,
  {
    isLost,
    nowMs,
    lastRoundMs,
  }: { readonly isLost: boolean; readonly nowMs: number; readonly lastRoundMs: number | null },
): Health {
  if (isLost) return { tone: "bad", is: "unreachable" };
  if (status === null) return { tone: "unknown", is: "unknown" };
  if (status.phase === "finished") return { tone: "good", is: "finished" };
  if (status.phase === "failed") return { tone: "bad", is: "failed" };
  if (status.phase === "paused") return { tone: "warn", is: "paused" };
  const ready = status.workers.filter(({ state }) => state === "ready").length;
  if (status.workers.length === 0) return { tone: "bad", is: "noWorkers" };
  if (ready === 0) return { tone: "warn", is: "joining" };
  const roundMs = median(curves?.roundMs.slice(-20) ?? []);
  if (roundMs === null || lastRoundMs === null) return { tone: "unknown", is: "unknown" };
  const forMs = nowMs - lastRoundMs;
  if (forMs > Math.max(STALLED_AT_LEAST_MS, STALLED_ROUNDS * roundMs)) {
    return { tone: "warn", is: "stalled", forMs, roundMs };
  }
  return { tone: "good", is: "working", workers: ready, roundMs };
}

export function learning(curves: Curves | null): Learning {
  const points = curves?.loss.length ?? 0;
  if (curves === null || points < 4) return { tone: "unknown", is: "unknown" };
  const tenth = Math.max(2, Math.floor(points / 10));
  const last = curves.loss.slice(-tenth);
  const before = curves.loss.slice(-2 * tenth, -tenth);
  const change = mean(last) - mean(before);
  // Two standard errors of the difference: less is noise.
  const noise = 2 * Math.sqrt(variance(last) / last.length + variance(before) / before.length);
  const is = Math.abs(change) <= noise ? "flat" : change < 0 ? "falling" : "rising";
  const validation = curves.evaluations.loss.at(-1);
  const loss = mean(last);
  return {
    tone: is === "falling" ? "good" : "warn",
    is,
    loss,
    change,
    rounds: (curves.version.at(-1) ?? 0) - (curves.version.at(-1 - tenth) ?? 0),
    gap: validation === undefined ? null : validation - loss,
  };
}

export function slow(status: Status | null): Slow {
  const ready = status?.workers.filter(({ state }) => state === "ready") ?? [];
  const middle = median(ready.map(({ tokensPerSecond }) => tokensPerSecond));
  if (middle === null || middle === 0) {
    return { tone: "unknown", workers: [], waiting: 0, medianTokensPerSecond: null };
  }
  const workers = ready
    .map((worker) => ({ worker, ofMedian: worker.tokensPerSecond / middle }))
    .filter(({ ofMedian }) => ofMedian < SLOW)
    .sort((a, b) => a.ofMedian - b.ofMedian);
  const waiting = ready.filter(({ waitingReason }) => waitingReason.includes("takes this device")).length;
  return { tone: workers.length > 0 ? "warn" : "good", workers, waiting, medianTokensPerSecond: middle };
}

export function scale(curves: Curves | null, scaling: readonly ScalingPoint[]): Scale {
  const recent = curves?.roundMs.length ?? 0;
  if (curves === null || recent < 3) return { tone: "unknown", is: "unknown" };
  const roundMs = mean(curves.roundMs.slice(-20));
  const computing = Math.min(1, mean(curves.computeMs.slice(-20)) / roundMs);
  const measured = efficiencies(scaling);
  return {
    tone: computing > 0.7 ? "good" : "warn",
    is: "known",
    workers: Math.round(curves.workers.at(-1) ?? 0),
    computing,
    twice: 1 / (1 - computing / 2),
    efficiency: measured.length < 2 ? null : (measured.at(-1)?.efficiency ?? null),
  };
}

/** Measured speed by number of workers, against the line through the fewest: what as many would bring if they added up. */
export function efficiencies(scaling: readonly ScalingPoint[]): {
  readonly workers: number;
  readonly tokensPerSecond: number;
  readonly ideal: number;
  readonly efficiency: number;
  readonly rounds: number;
}[] {
  // prettier-ignore
  const measured = scaling.filter(({ rounds, roundMs }) => rounds >= MIN_ROUNDS && roundMs > 0);
  const [fewest] = measured;
  if (fewest === undefined) return [];
  const perWorker = (1000 * fewest.tokens) / fewest.roundMs / fewest.workers;
  return measured.map(({ workers, tokens, roundMs, rounds }) => {
    const tokensPerSecond = (1000 * tokens) / roundMs;
    const ideal = perWorker * workers;
    return { workers, tokensPerSecond, ideal, efficiency: tokensPerSecond / ideal, rounds };
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function variance(values: readonly number[]): number {
  const middle = mean(values);
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / Math.max(1, values.length - 1);
}

function median(values: readonly number[]): number | null {
  // Of a typed array without a comparing function: many times faster for hundreds of workers.
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}
