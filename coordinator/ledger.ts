/**
 * @file The run's memory (node:sqlite, WAL): its spec, workers, rounds, contributions, evaluations and events. A round is
 * one transaction, written before its update is published; a round without a row did not happen.
 */
import { DatabaseSync } from "node:sqlite";
import type { Backend } from "../shared/engine/engine.ts";
import type { Version, WorkerId } from "../shared/wire/protocol.ts";

export type RoundRow = {
  /** The version this round led to. */
  readonly version: Version;
  /** The round's samples are positions origin … origin + samples − 1. */
  readonly origin: number;
  readonly samples: number;
  readonly tokens: number;
  readonly lossSum: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  /** Of θ at `version`. */
  readonly hash: string;
  readonly committedMs: number;
  /** Since the commit before. */
  readonly roundMs: number;
  /** Engine time of the worker that computed longest; evaluation is not counted. */
  readonly computeMs: number;
  /** The optimizer's step: what nobody can do before every unit is in. */
  readonly commitMs: number;
  /** Workers with a part in it. */
  readonly workers: number;
  /** Of all frames, either way, since the commit before. */
  readonly bytesIn: number;
  readonly bytesOut: number;
};

export type ContributionRow = {
  readonly firstUnit: number;
  readonly units: number;
  readonly worker: WorkerId;
  readonly tokens: number;
  readonly lossSum: number;
};

export type Credit = {
  readonly tokens: number;
  /** Rounds with a contribution of this worker. */
  readonly rounds: number;
  /** 1 for the worker with the most tokens; null for one without any. */
  readonly rank: number | null;
  /** Workers that have any. */
  readonly contributors: number;
};

export type EvaluationRow = {
  readonly version: Version;
  readonly samples: number;
  readonly tokens: number;
  readonly lossSum: number;
  readonly atMs: number;
};

export type WorkerRow = {
  readonly id: WorkerId;
  readonly secret: string;
  readonly kind: "node" | "browser";
  readonly name: string;
  readonly backend: Backend | null;
  readonly lastSeenMs: number;
};

export type BanRow = { readonly worker: WorkerId; readonly atMs: number; readonly reason: string };

export type Ledger = {
  readonly commitRound: (round: RoundRow, contributions: readonly ContributionRow[]) => void;
  /** Forgets what came after `version`: θ could not be recovered beyond it. */
  readonly rollBackTo: (version: Version) => void;
  readonly recordEvaluation: (row: EvaluationRow) => void;
  readonly rememberWorker: (row: WorkerRow) => void;
  readonly findWorker: (id: WorkerId) => WorkerRow | null;
  /** This identity is refused from now on. Idempotent: the first reason stays. */
  readonly ban: (id: WorkerId, atMs: number, reason: string) => void;
  /** Whether there was a ban to lift. */
  readonly liftBan: (id: WorkerId) => boolean;
  readonly isBanned: (id: WorkerId) => boolean;
  readonly bans: () => readonly BanRow[];
  /** The reason of the operator's pause; null while the run is not paused. */
  readonly pause: () => string | null;
  readonly rememberPause: (reason: string | null) => void;
  /** Of the committed rounds, by all visits of this worker. */
  readonly creditOf: (id: WorkerId) => Credit;
  readonly event: (atMs: number, code: string, text: string) => void;
  readonly lastRound: () => RoundRow | null;
  readonly lastEvaluation: () => EvaluationRow | null;
  readonly rounds: () => readonly RoundRow[];
  readonly evaluations: () => readonly EvaluationRow[];
  /** Tokens of all committed rounds. */
  readonly tokens: () => number;
  readonly close: () => void;
};

/** Oldest events go first: the table must not grow with the run. */
const MAX_EVENTS = 10_000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS round (
    version INTEGER PRIMARY KEY, origin INTEGER NOT NULL, samples INTEGER NOT NULL, tokens INTEGER NOT NULL,
    lossSum REAL NOT NULL, gradientNorm REAL NOT NULL, learningRate REAL NOT NULL, hash TEXT NOT NULL,
    committedMs REAL NOT NULL, roundMs REAL NOT NULL, computeMs REAL NOT NULL,
    commitMs REAL NOT NULL DEFAULT 0, workers INTEGER NOT NULL DEFAULT 0,
    bytesIn INTEGER NOT NULL DEFAULT 0, bytesOut INTEGER NOT NULL DEFAULT 0) STRICT;
  CREATE TABLE IF NOT EXISTS contribution (
    version INTEGER NOT NULL, firstUnit INTEGER NOT NULL, units INTEGER NOT NULL, worker TEXT NOT NULL,
    tokens INTEGER NOT NULL, lossSum REAL NOT NULL, PRIMARY KEY (version, firstUnit)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS evaluation (
    version INTEGER PRIMARY KEY, samples INTEGER NOT NULL, tokens INTEGER NOT NULL, lossSum REAL NOT NULL,
    atMs REAL NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS worker (
    id TEXT PRIMARY KEY, secret TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, backend TEXT,
    lastSeenMs REAL NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS ban (
    worker TEXT PRIMARY KEY, atMs REAL NOT NULL, reason TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS credit (
    worker TEXT PRIMARY KEY, tokens INTEGER NOT NULL, rounds INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS creditByTokens ON credit (tokens);
  CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, atMs REAL NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
`;

export function openLedger(file: string): Ledger {
  const database = new DatabaseSync(file);
  database.exec("PRAGMA journal_mode = WAL");
  // A killed process loses nothing with NORMAL (the page cache outlives it); docs/assumptions.md says what a power cut may cost.
  database.exec("PRAGMA synchronous = NORMAL");
  database.exec(SCHEMA);
  addMissingColumns(database);
  // Sums that are asked for every second; contributions of a long run are millions of rows.
  const recountCredit = (): void => {
    database.exec("DELETE FROM credit");
    database.exec(
      `INSERT INTO credit SELECT worker, SUM(tokens), COUNT(DISTINCT version) FROM contribution GROUP BY worker`,
    );
  };
  // Written by a version that did not keep them.
  if (one(database, "SELECT 1 FROM credit LIMIT 1") === null) recountCredit();
  const addCredit = database.prepare(
    `INSERT INTO credit VALUES (?, ?, 1)
     ON CONFLICT (worker) DO UPDATE SET tokens = tokens + excluded.tokens, rounds = rounds + 1`,
  );
  const selectCredit = database.prepare("SELECT tokens, rounds FROM credit WHERE worker = ?");
  const countCredit = database.prepare("SELECT COUNT(*) AS count FROM credit WHERE tokens > ?");
  const insertRound = database.prepare(
    `INSERT INTO round VALUES (:version, :origin, :samples, :tokens, :lossSum, :gradientNorm, :learningRate, :hash,
     :committedMs, :roundMs, :computeMs, :commitMs, :workers, :bytesIn, :bytesOut)`,
  );
  const insertContribution = database.prepare("INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?)");
  const insertEvaluation = database.prepare("INSERT OR REPLACE INTO evaluation VALUES (?, ?, ?, ?, ?)");
  const upsertWorker = database.prepare("INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?)");
  const insertBan = database.prepare("INSERT OR IGNORE INTO ban VALUES (?, ?, ?)");
  const insertEvent = database.prepare("INSERT INTO event (atMs, code, text) VALUES (?, ?, ?)");
  const trimEvents = database.prepare("DELETE FROM event WHERE id <= ?");
  return {
    commitRound(round, contributions) {
      database.exec("BEGIN IMMEDIATE");
      try {
        insertRound.run(round);
        for (const { firstUnit, units, worker, tokens, lossSum } of contributions) {
          insertContribution.run(round.version, firstUnit, units, worker, tokens, lossSum);
        }
        for (const [worker, tokens] of tokensByWorker(contributions)) addCredit.run(worker, tokens);
        database.exec("COMMIT");
      } catch (error) {
        database.exec("ROLLBACK");
        throw error;
      }
    },
    rollBackTo(version) {
      for (const table of ["round", "contribution", "evaluation"]) {
        database.prepare(`DELETE FROM ${table} WHERE version > ?`).run(version);
      }
      recountCredit();
    },
    recordEvaluation: ({ version, samples, tokens, lossSum, atMs }) => {
      insertEvaluation.run(version, samples, tokens, lossSum, atMs);
    },
    rememberWorker: ({ id, secret, kind, name, backend, lastSeenMs }) => {
      upsertWorker.run(id, secret, kind, name, backend, lastSeenMs);
    },
    findWorker: (id) => one<WorkerRow>(database, "SELECT * FROM worker WHERE id = ?", id),
    ban: (id, atMs, reason) => {
      insertBan.run(id, atMs, reason);
    },
    liftBan: (id) => Number(database.prepare("DELETE FROM ban WHERE worker = ?").run(id).changes) > 0,
    isBanned: (id) => one<BanRow>(database, "SELECT * FROM ban WHERE worker = ?", id) !== null,
    bans: () => all<BanRow>(database, "SELECT * FROM ban ORDER BY atMs, worker"),
    pause: () => one<{ value: string }>(database, "SELECT value FROM setting WHERE name = 'pause'")?.value ?? null,
    rememberPause(reason) {
      if (reason === null) database.exec("DELETE FROM setting WHERE name = 'pause'");
      else database.prepare("INSERT OR REPLACE INTO setting VALUES ('pause', ?)").run(reason);
    },
    creditOf(id) {
      const { count: contributors } = countCredit.get(-1) as { count: number };
      const own = selectCredit.get(id) as { tokens: number; rounds: number } | undefined;
      if (own === undefined) return { tokens: 0, rounds: 0, rank: null, contributors };
      const { count: ahead } = countCredit.get(own.tokens) as { count: number };
      return { ...own, rank: ahead + 1, contributors };
    },
    event(atMs, code, text) {
      const { lastInsertRowid } = insertEvent.run(atMs, code, text);
      if (Number(lastInsertRowid) % 1000 === 0) trimEvents.run(Number(lastInsertRowid) - MAX_EVENTS);
    },
    lastRound: () => one<RoundRow>(database, "SELECT * FROM round ORDER BY version DESC LIMIT 1"),
    lastEvaluation: () => one<EvaluationRow>(database, "SELECT * FROM evaluation ORDER BY version DESC LIMIT 1"),
    rounds: () => all<RoundRow>(database, "SELECT * FROM round ORDER BY version"),
    evaluations: () => all<EvaluationRow>(database, "SELECT * FROM evaluation ORDER BY version"),
    tokens: () => one<{ sum: number | null }>(database, "SELECT SUM(tokens) AS sum FROM round")?.sum ?? 0,
    close: () => database.close(),
  };
}

/** A run that was begun before these were written down goes on; of its first rounds they say 0. */
function addMissingColumns(database: DatabaseSync): void {
  const present = new Set(all<{ name: string }>(database, "PRAGMA table_info(round)").map(({ name }) => name));
  for (const column of ["commitMs REAL", "workers INTEGER", "bytesIn INTEGER", "bytesOut INTEGER"]) {
    const [name = ""] = column.split(" ");
    if (!present.has(name)) database.exec(`ALTER TABLE round ADD COLUMN ${column} NOT NULL DEFAULT 0`);
  }
}

function tokensByWorker(contributions: readonly ContributionRow[]): ReadonlyMap<WorkerId, number> {
  const byWorker = new Map<WorkerId, number>();
  for (const { worker, tokens } of contributions) byWorker.set(worker, (byWorker.get(worker) ?? 0) + tokens);
  return byWorker;
}

function one<Row>(database: DatabaseSync, sql: string, ...values: string[]): Row | null {
  return (database.prepare(sql).get(...values) as Row | undefined) ?? null;
}

function all<Row>(database: DatabaseSync, sql: string): Row[] {
  return database.prepare(sql).all() as Row[];
}
