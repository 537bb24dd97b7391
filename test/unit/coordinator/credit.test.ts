import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLedger } from "../../../coordinator/store/ledger.ts";
import type { ContributionRow, Ledger } from "../../../coordinator/store/ledger.ts";

let dir: string;
let ledger: Ledger;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-credit-"));
  ledger = openLedger(join(dir, "ledger.sqlite"));
});

afterEach(() => {
  ledger.close();
  rmSync(dir, { recursive: true });
});

/** A committed round; what each worker gave, unit by unit. */
function commit(version: number, parts: readonly (readonly [worker: string, tokens: number])[]): void {
  const contributions = parts.map(([worker, tokens], firstUnit): ContributionRow => ({
    firstUnit,
    units: 1,
    lease: firstUnit + 1,
    worker,
    tokens,
    lossSum: 1,
    norm: 1,
  }));
  const tokens = contributions.reduce((sum, part) => sum + part.tokens, 0);
  const round = { version, origin: 0, samples: 1, tokens, lossSum: 1, gradientNorm: 1, learningRate: 1, hash: "00", committedMs: version, roundMs: 1, computeMs: 1, commitMs: 1, workers: 1, bytesIn: 0, bytesOut: 0, baseHash: "00", journal: 0, record: 0 }; // prettier-ignore
  ledger.commitRound(round, contributions, { issued: parts.length, leases: [], returned: [] });
}

test("credit is tokens, rounds and rank over all committed rounds; equal credit shares a rank", () => {
  commit(1, [["ann", 10], ["ben", 30], ["ann", 20]]); // prettier-ignore
  commit(2, [["ann", 5], ["cem", 30]]); // prettier-ignore
  expect(ledger.creditOf("ann")).toEqual({ tokens: 35, rounds: 2, rank: 1, contributors: 3 });
  expect(ledger.creditOf("ben")).toEqual({ tokens: 30, rounds: 1, rank: 2, contributors: 3 });
  expect(ledger.creditOf("cem")).toEqual({ tokens: 30, rounds: 1, rank: 2, contributors: 3 });
  expect(ledger.creditOf("who")).toEqual({ tokens: 0, rounds: 0, rank: null, contributors: 3 });
});

test("rounds that are taken back take their credit with them; a restart keeps the rest", () => {
  commit(1, [["ann", 10]]);
  commit(2, [["ann", 10], ["ben", 50]]); // prettier-ignore
  ledger.rollBackTo(1);
  expect(ledger.creditOf("ben")).toEqual({ tokens: 0, rounds: 0, rank: null, contributors: 1 });
  ledger.close();
  ledger = openLedger(join(dir, "ledger.sqlite"));
  expect(ledger.creditOf("ann")).toEqual({ tokens: 10, rounds: 1, rank: 1, contributors: 1 });
});

test("the board is in order of tokens, each with the name it last gave", () => {
  const known = { secret: "s", kind: "browser", backend: null, lastSeenMs: 1 } as const;
  ledger.rememberWorker({ ...known, id: "ann", name: "Ann" });
  ledger.rememberWorker({ ...known, id: "ben", name: "" });
  ledger.rememberWorker({ ...known, id: "ann", name: "Anna" });
  commit(1, [["ann", 10], ["ben", 30], ["cem", 10], ["ann", 5]]); // prettier-ignore
  commit(2, [["ann", 10]]);
  expect(ledger.standings(2)).toEqual([
    { worker: "ben", name: "", tokens: 30, rounds: 1 },
    { worker: "ann", name: "Anna", tokens: 25, rounds: 2 },
  ]);
  // Whose row was never written is somebody all the same.
  expect(ledger.standings(9).at(-1)).toEqual({ worker: "cem", name: "", tokens: 10, rounds: 1 });
  expect(ledger.contributors()).toBe(3);
});
