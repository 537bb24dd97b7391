import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { openLedger } from "../../../coordinator/store/ledger.ts";

test("a ledger that was begun before rounds said who computed and how many bytes went by is opened, and goes on", () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-old-ledger-"));
  try {
    const file = join(dir, "ledger.sqlite");
    const database = new DatabaseSync(file);
    database.exec(`CREATE TABLE round (
      version INTEGER PRIMARY KEY, origin INTEGER NOT NULL, samples INTEGER NOT NULL, tokens INTEGER NOT NULL,
      lossSum REAL NOT NULL, gradientNorm REAL NOT NULL, learningRate REAL NOT NULL, hash TEXT NOT NULL,
      committedMs REAL NOT NULL, roundMs REAL NOT NULL, computeMs REAL NOT NULL) STRICT;
      INSERT INTO round VALUES (1, 0, 4, 64, 128, 1.5, 1e-3, 'abc', 1000, 20, 15)`);
    database.close();

    const ledger = openLedger(file);
    const first = { origin: 0, samples: 4, tokens: 64, lossSum: 128, gradientNorm: 1.5, learningRate: 1e-3, hash: "abc", committedMs: 1000, roundMs: 20, computeMs: 15 }; // prettier-ignore
    const second = {
      ...first,
      version: 2,
      origin: 4,
      commitMs: 2,
      workers: 3,
      bytesIn: 700,
      bytesOut: 900,
      baseHash: "abc",
      journal: 0,
      record: 1,
    };
    ledger.commitRound(second, [], { issued: 1, leases: [], returned: [] });
    expect(ledger.rounds()).toEqual([{ ...first, version: 1, commitMs: 0, workers: 0, bytesIn: 0, bytesOut: 0, baseHash: null, journal: null, record: null, issued: null }, { ...second, issued: 1 }]); // prettier-ignore
    ledger.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
