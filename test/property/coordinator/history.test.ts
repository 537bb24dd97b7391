/** Laws of the run's past: whatever the number of points, it is the ledger's rounds, none left out and no spike lost. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openHistory, type History } from "../../../coordinator/store/history.ts";
import { openLedger, type Ledger, type RoundRow } from "../../../coordinator/store/ledger.ts";
import { randomUniform, streamKey } from "../../../shared/numerics/rng.ts";

let dir: string;
let ledger: Ledger;
let history: History;

beforeEach(open);
afterEach(close);

function open(): void {
  dir = mkdtempSync(join(tmpdir(), "manyhands-history-"));
  ledger = openLedger(join(dir, "ledger.sqlite"));
  history = openHistory(join(dir, "history.sqlite"), join(dir, "ledger.sqlite"));
}

function close(): void {
  history.close();
  ledger.close();
  rmSync(dir, { recursive: true });
}

/** Different in every column, so that one taken for another shows. */
function round(version: number, seed = 1): RoundRow {
  const key = streamKey(seed, version);
  const u = (index: number): number => 0.5 + randomUniform(key, index);
  const tokens = Math.round(1000 * u(0));
  return {
    version,
    origin: (version - 1) * 4,
    samples: 4,
    tokens,
    lossSum: 3 * tokens * u(1),
    gradientNorm: u(2),
    learningRate: 1e-3 * u(3),
    hash: `${seed}-${version}`,
    baseHash: `${seed}-${version - 1}`,
    journal: 0,
    record: version - 1,
    committedMs: 1000 * version,
    roundMs: 100 * u(4),
    computeMs: 60 * u(5),
    commitMs: 5 * u(6),
    workers: 1 + Math.floor(4 * randomUniform(key, 7)),
    bytesIn: Math.round(5000 * u(8)),
    bytesOut: Math.round(7000 * u(9)),
  };
}

/** All at once, where a run would sync each to the disk. */
function write(rows: readonly RoundRow[]): void {
  const database = new DatabaseSync(join(dir, "ledger.sqlite"));
  const names = Object.keys(rows[0] ?? {});
  const insert = database.prepare(`INSERT INTO round (${names.join()}) VALUES (${names.map((name) => `:${name}`).join()})`); // prettier-ignore
  database.exec("PRAGMA synchronous = OFF; BEGIN");
  for (const row of rows) insert.run(row);
  database.exec("COMMIT");
  database.close();
}

function takeInAll(): void {
  while (history.refresh()) {
    // One call takes in a bounded number.
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

test("every point is the mean of the rounds it stands for, with the least and the greatest among them", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 5, max: 60 }),
      (batches, points) => {
        close();
        open();
        const rows: RoundRow[] = [];
        // Taken in as they come, in pieces of any size, as during a run.
        for (const size of batches) {
          const more = Array.from({ length: size }, (_, i) => round(rows.length + i + 1));
          write(more);
          rows.push(...more);
          takeInAll();
        }
        const curves = history.curves({ from: 1, to: Infinity, points });
        expect(curves.version.length).toBeLessThanOrEqual(points);
        expect(curves).toMatchObject({ to: rows.length, newest: rows.length });
        let from = 0;
        for (const [i, last] of curves.version.entries()) {
          const those = rows.slice(from, last);
          from = last;
          const losses = those.map(({ lossSum, tokens }) => lossSum / tokens);
          const tokens = sum(those.map((row) => row.tokens));
          const ms = sum(those.map((row) => row.roundMs));
          expect(curves.loss[i]).toBeCloseTo(sum(those.map(({ lossSum }) => lossSum)) / tokens, 4);
          expect(curves.lossMin[i]).toBeCloseTo(Math.min(...losses), 4);
          expect(curves.lossMax[i]).toBeCloseTo(Math.max(...losses), 4);
          expect(curves.gradientNormMax[i]).toBeCloseTo(Math.max(...those.map((row) => row.gradientNorm)), 4);
          expect(curves.tokensPerSecond[i]! / ((1000 * tokens) / ms)).toBeCloseTo(1, 4);
          expect(curves.computeMs[i]! / (sum(those.map((row) => row.computeMs)) / those.length)).toBeCloseTo(1, 4);
          expect(curves.bytesOutPerSecond[i]! / ((1000 * sum(those.map((row) => row.bytesOut))) / ms)).toBeCloseTo(1, 4); // prettier-ignore
          expect(curves.workers[i]! / (sum(those.map((row) => row.workers)) / those.length)).toBeCloseTo(1, 4);
        }
        expect(from, "no round is left out").toBe(rows.length);
      },
    ),
    { numRuns: 10 },
  );
});

test("speed by number of workers counts every round once, however often the ledger was looked at", () => {
  const rows = Array.from({ length: 500 }, (_, i) => round(i + 1));
  for (let at = 0; at < rows.length; at += 77) {
    write(rows.slice(at, at + 77));
    takeInAll();
    takeInAll();
  }
  for (const { workers, rounds, tokens, roundMs } of history.scaling()) {
    const those = rows.filter((row) => row.workers === workers);
    expect({ rounds, tokens }).toEqual({ rounds: those.length, tokens: sum(those.map((row) => row.tokens)) });
    expect(roundMs).toBeCloseTo(sum(those.map((row) => row.roundMs)), 6);
  }
  expect(sum(history.scaling().map(({ rounds }) => rounds))).toBe(500);
});

test("the number of points of speed by number of workers stays small, and none of the rounds is lost", () => {
  const rows = Array.from({ length: 1000 }, (_, i) => ({ ...round(i + 1), workers: i + 1 }));
  write(rows);
  takeInAll();
  const points = history.scaling();
  expect(points.length).toBeLessThan(64);
  expect(points.slice(0, 15).map(({ workers }) => workers)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]); // prettier-ignore
  expect(points.every(({ workers }, i) => i === 0 || workers > points[i - 1]!.workers)).toBe(true);
  expect(sum(points.map(({ tokens }) => tokens))).toBe(sum(rows.map(({ tokens }) => tokens)));
});

test("one outlier among twenty thousand rounds is still seen", () => {
  const rows = Array.from({ length: 20_000 }, (_, i) => round(i + 1));
  rows[12_344] = { ...rows[12_344]!, lossSum: 99 * rows[12_344]!.tokens, gradientNorm: 1234 };
  write(rows);
  takeInAll();
  const { lossMax, gradientNormMax, version } = history.curves({ from: 1, to: Infinity, points: 100 });
  expect(version.length).toBeLessThanOrEqual(100);
  expect(Math.max(...lossMax)).toBe(99);
  const at = gradientNormMax.indexOf(1234);
  expect(version[at]).toBeGreaterThanOrEqual(12_345);
  expect(version[at - 1]).toBeLessThan(12_345);
});

test("a part of the run is shown finer, down to single rounds", () => {
  const rows = Array.from({ length: 5000 }, (_, i) => round(i + 1));
  write(rows);
  takeInAll();
  const { version, loss, span } = history.curves({ from: 3001, to: 3050, points: 100 });
  expect(span).toBe(1);
  expect(version).toEqual(rows.slice(3000, 3050).map((row) => row.version));
  expect(loss[7]).toBeCloseTo(rows[3007]!.lossSum / rows[3007]!.tokens, 4);
});

test("rounds that the ledger lost and that were trained again are taken in as they are now", () => {
  write(Array.from({ length: 300 }, (_, i) => round(i + 1)));
  takeInAll();
  history.close();
  ledger.rollBackTo(100);
  const again = Array.from({ length: 250 }, (_, i) => round(101 + i, 2));
  write(again);
  history = openHistory(join(dir, "history.sqlite"), join(dir, "ledger.sqlite"));
  takeInAll();
  const { loss, version } = history.curves({ from: 1, to: Infinity, points: 1000 });
  expect(version.length).toBe(350);
  expect(loss[199]).toBeCloseTo(again[99]!.lossSum / again[99]!.tokens, 4);
  expect(sum(history.scaling().map(({ rounds }) => rounds))).toBe(350);
});

test("evaluations and events come with the rounds, as many as were asked for", () => {
  write(Array.from({ length: 100 }, (_, i) => round(i + 1)));
  for (let version = 10; version <= 100; version += 10) {
    ledger.recordEvaluation({ version, samples: 4, tokens: 100, lossSum: 100 * version, atMs: version });
    ledger.event(version, "joined", `worker ${version}`);
    ledger.flush();
  }
  takeInAll();
  const { evaluations } = history.curves({ from: 1, to: Infinity, points: 100 });
  expect(evaluations).toEqual({ version: [10, 20, 30, 40, 50, 60, 70, 80, 90, 100], loss: [10, 20, 30, 40, 50, 60, 70, 80, 90, 100] }); // prettier-ignore
  expect(history.curves({ from: 1, to: Infinity, points: 5 }).evaluations.version.length).toBeLessThanOrEqual(6);
  expect(history.validationLossAt(57)).toBe(50);
  expect(history.validationLossAt(9)).toBeNull();
  const events = history.eventsAfter(0, 3);
  expect(events.map(({ text }) => text)).toEqual(["worker 80", "worker 90", "worker 100"]);
  expect(history.eventsAfter(events.at(-1)!.id, 3)).toEqual([]);
});
