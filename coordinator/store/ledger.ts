/**
 * @file The run's memory (node:sqlite, WAL): rounds, contributions, leases, evaluations, workers and events. A round is one
 * transaction, on the disk before its update is published; a round without a row did not happen. Events and workers are
 * gathered and written with the next round, or by `flush`, so that each round costs one sync.
 */
import { DatabaseSync } from "node:sqlite";
import type { LeaseAccount, LeaseOutcome, ReturnedLeases } from "../round/leaseAccount.ts";
import type { Backend } from "../../shared/engine/engine.ts";
import type { LeaseId, Version, WorkerId } from "../../shared/wire/protocol.ts";
import type { Standing } from "../../shared/wire/status.ts";

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
  /** Of θ that the gradient was taken at: the hash of the round before. */
  readonly baseHash: string;
  /** Where the gradient lies: record `record` of journal `journal`, until two newer snapshots have replaced it. */
  readonly journal: number;
  readonly record: number;
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
  readonly lease: LeaseId;
  readonly worker: WorkerId;
  readonly tokens: number;
  readonly lossSum: number;
  /** ‖Σ gradient‖ as it was merged; 0 where it was not written down. */
  readonly norm: number;
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

export type EventRow = { readonly atMs: number; readonly code: string; readonly text: string };

/** What a round that an earlier version of this program wrote does not say is null. */
export type StoredRound = Omit<RoundRow, "baseHash" | "journal" | "record"> & {
  readonly [Key in "baseHash" | "journal" | "record"]: RoundRow[Key] | null;
} & { readonly issued: number | null };
export type StoredContribution = Omit<ContributionRow, "lease"> & {
  readonly version: Version;
  readonly lease: LeaseId | null;
};

/** In the run's folder. */
export const LEDGER_FILE = "ledger.sqlite";

/** Reading only: what the command-line programs use, also while a coordinator writes. */
export type LedgerReader = {
  readonly lastRound: () => StoredRound | null;
  readonly lastEvaluation: () => EvaluationRow | null;
  readonly rounds: () => readonly StoredRound[];
  /** By version and first unit; one at a time, because a long run has millions. */
  readonly contributions: () => Iterable<StoredContribution>;
  readonly leases: () => Iterable<LeaseOutcome & { readonly version: Version }>;
  readonly returned: () => Iterable<ReturnedLeases & { readonly version: Version }>;
  readonly evaluations: () => readonly EvaluationRow[];
  readonly workers: () => readonly WorkerRow[];
  /** The newest `count`, oldest first. */
  readonly events: (count: number) => readonly EventRow[];
  /** Tokens of all committed rounds. */
  readonly tokens: () => number;
  readonly bans: () => readonly BanRow[];
  /** What is wrong with the file itself; null when nothing is. Reads all of it. */
  readonly integrity: () => string | null;
  /** The reason of the operator's pause; null while the run is not paused. */
  readonly pause: () => string | null;
  /** Of the committed rounds, by all visits of this worker. */
  readonly creditOf: (id: WorkerId) => Credit;
  /** Workers with a part in any committed round. */
  readonly contributors: () => number;
  /** The `count` with most tokens, most first. */
  readonly standings: (count: number) => readonly Standing[];
  /** Norms and tokens of the contributions to each of the last `rounds` rounds, oldest round first. */
  readonly norms: (rounds: number) => readonly (readonly { readonly norm: number; readonly tokens: number }[])[];
  readonly close: () => void;
};

export type Ledger = LedgerReader & {
  /** One transaction, synced; what was gathered goes with it. @throws Error when the disk is full: nothing was written. */
  readonly commitRound: (round: RoundRow, contributions: readonly ContributionRow[], leases: LeaseAccount) => void;
  /** Forgets what came after `version`: θ could not be recovered beyond it. */
  readonly rollBackTo: (version: Version) => void;
  readonly recordEvaluation: (row: EvaluationRow) => void;
  readonly rememberPause: (reason: string | null) => void;
  /** Null when it is lifted. */
  readonly rememberBan: (id: WorkerId, ban: BanRow | null) => void;
  /** Gathered, not written yet. */
  readonly rememberWorker: (row: WorkerRow) => void;
  readonly event: (atMs: number, code: string, text: string) => void;
  /** Also those that are only gathered. */
  readonly findWorker: (id: WorkerId) => WorkerRow | null;
  /** Writes what was gathered. @throws Error when the disk is full: it stays gathered. */
  readonly flush: () => void;
};

/** Oldest events go first: the table must not grow with the run. */
const MAX_EVENTS = 10_000;

/** Events gathered while nothing can be written; more are counted only. */
const MAX_GATHERED_EVENTS = 1000;

/** Raised with the schema; a ledger of 0 is one of version 0.1.0. */
const SCHEMA_VERSION = 2;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS round (
    version INTEGER PRIMARY KEY, origin INTEGER NOT NULL, samples INTEGER NOT NULL, tokens INTEGER NOT NULL,
    lossSum REAL NOT NULL, gradientNorm REAL NOT NULL, learningRate REAL NOT NULL, hash TEXT NOT NULL,
    committedMs REAL NOT NULL, roundMs REAL NOT NULL, computeMs REAL NOT NULL,
    commitMs REAL NOT NULL DEFAULT 0, workers INTEGER NOT NULL DEFAULT 0,
    bytesIn INTEGER NOT NULL DEFAULT 0, bytesOut INTEGER NOT NULL DEFAULT 0,
    baseHash TEXT, journal INTEGER, record INTEGER, issued INTEGER) STRICT;
  CREATE TABLE IF NOT EXISTS contribution (
    version INTEGER NOT NULL, firstUnit INTEGER NOT NULL, units INTEGER NOT NULL, worker TEXT NOT NULL,
    tokens INTEGER NOT NULL, lossSum REAL NOT NULL, lease INTEGER,
    norm REAL NOT NULL DEFAULT 0, PRIMARY KEY (version, firstUnit)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS lease (
    version INTEGER NOT NULL, lease INTEGER NOT NULL, worker TEXT NOT NULL, firstUnit INTEGER NOT NULL,
    units INTEGER NOT NULL, returned INTEGER NOT NULL, "end" TEXT, PRIMARY KEY (version, lease)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS returned (
    version INTEGER NOT NULL, "end" TEXT NOT NULL, leases INTEGER NOT NULL, units INTEGER NOT NULL,
    PRIMARY KEY (version, "end")) STRICT, WITHOUT ROWID;
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

/** @param sync `false`: a killed process loses nothing, a power cut may cost the newest rounds. */
export function openLedger(file: string, { sync = true }: { sync?: boolean } = {}): Ledger {
  const database = new DatabaseSync(file);
  database.exec("PRAGMA journal_mode = WAL");
  database.exec(`PRAGMA synchronous = ${sync ? "FULL" : "NORMAL"}`);
  migrate(database);
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
  const insertRound = database.prepare(
    `INSERT INTO round (version, origin, samples, tokens, lossSum, gradientNorm, learningRate, hash, committedMs, roundMs,
     computeMs, commitMs, workers, bytesIn, bytesOut, baseHash, journal, record, issued)
     VALUES (:version, :origin, :samples, :tokens, :lossSum, :gradientNorm, :learningRate, :hash, :committedMs, :roundMs,
     :computeMs, :commitMs, :workers, :bytesIn, :bytesOut, :baseHash, :journal, :record, :issued)`,
  );
  const insertContribution = database.prepare(
    "INSERT INTO contribution (version, firstUnit, units, worker, tokens, lossSum, lease, norm) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
  );
  const insertLease = database.prepare("INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?)");
  const insertReturned = database.prepare("INSERT INTO returned VALUES (?, ?, ?, ?)");
  const insertEvaluation = database.prepare("INSERT OR REPLACE INTO evaluation VALUES (?, ?, ?, ?, ?)");
  const upsertWorker = database.prepare("INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?)");
  const insertBan = database.prepare("INSERT OR REPLACE INTO ban VALUES (?, ?, ?)");
  const insertEvent = database.prepare("INSERT INTO event (atMs, code, text) VALUES (?, ?, ?)");
  const trimEvents = database.prepare("DELETE FROM event WHERE id <= ?");
  const gatheredWorkers = new Map<WorkerId, WorkerRow>();
  let gatheredEvents: EventRow[] = [];
  let unkept = 0;

  function transaction(write: () => void): void {
    database.exec("BEGIN IMMEDIATE");
    try {
      write();
      for (const { id, secret, kind, name, backend, lastSeenMs } of gatheredWorkers.values()) {
        upsertWorker.run(id, secret, kind, name, backend, lastSeenMs);
      }
      for (const { atMs, code, text } of gatheredEvents) {
        const id = Number(insertEvent.run(atMs, code, text).lastInsertRowid);
        if (id % 1000 === 0) trimEvents.run(id - MAX_EVENTS);
      }
      database.exec("COMMIT");
    } catch (error) {
      // A full disk may have ended the transaction already; a second ROLLBACK would hide the reason.
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
    gatheredWorkers.clear();
    gatheredEvents = [];
    unkept = 0;
  }

  return {
    ...readerOf(database),
    commitRound(round, contributions, { issued, leases, returned }) {
      const { version } = round;
      transaction(() => {
        insertRound.run({ ...round, issued });
        for (const { firstUnit, units, worker, tokens, lossSum, lease, norm } of contributions) {
          insertContribution.run(version, firstUnit, units, worker, tokens, lossSum, lease, norm);
        }
        for (const [worker, tokens] of tokensByWorker(contributions)) addCredit.run(worker, tokens);
        for (const { lease, worker, firstUnit, units, returned: back, end } of leases) {
          insertLease.run(version, lease, worker, firstUnit, units, back, end);
        }
        for (const { end, leases: count, units } of returned) insertReturned.run(version, end, count, units);
      });
    },
    rollBackTo(version) {
      transaction(() => {
        for (const table of ["round", "contribution", "lease", "returned", "evaluation"]) {
          database.prepare(`DELETE FROM ${table} WHERE version > ?`).run(version);
        }
        recountCredit();
      });
    },
    recordEvaluation: ({ version, samples, tokens, lossSum, atMs }) => {
      transaction(() => insertEvaluation.run(version, samples, tokens, lossSum, atMs));
    },
    rememberBan(id, ban) {
      transaction(() => {
        if (ban === null) database.prepare("DELETE FROM ban WHERE worker = ?").run(id);
        else insertBan.run(id, ban.atMs, ban.reason);
      });
    },
    rememberPause(reason) {
      transaction(() => {
        if (reason === null) database.exec("DELETE FROM setting WHERE name = 'pause'");
        else database.prepare("INSERT OR REPLACE INTO setting VALUES ('pause', ?)").run(reason);
      });
    },
    rememberWorker: (row) => void gatheredWorkers.set(row.id, row),
    event(atMs, code, text) {
      if (gatheredEvents.length < MAX_GATHERED_EVENTS) {
        gatheredEvents.push({ atMs, code, text });
        return;
      }
      unkept += 1;
      const last = { atMs, code: "events-dropped", text: `${unkept} events could not be kept` };
      gatheredEvents.splice(MAX_GATHERED_EVENTS - 1, 1, last);
    },
    findWorker: (id) => gatheredWorkers.get(id) ?? one<WorkerRow>(database, "SELECT * FROM worker WHERE id = ?", id),
    flush() {
      if (gatheredWorkers.size > 0 || gatheredEvents.length > 0) transaction(() => {});
    },
  };
}

/** @throws Error when there is none, or when it is of another version of this program. */
export function readLedger(file: string): LedgerReader {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    const version = schemaVersion(database);
    if (version !== SCHEMA_VERSION) {
      throw new Error(
        `${file}: a ledger of schema ${version}, this program reads ${SCHEMA_VERSION}; start the run once`,
      );
    }
    // One state of the ledger for everything that is asked, whatever a coordinator commits meanwhile.
    database.exec("BEGIN");
    return readerOf(database);
  } catch (error) {
    database.close();
    throw error;
  }
}

function readerOf(database: DatabaseSync): LedgerReader {
  const selectCredit = database.prepare("SELECT tokens, rounds FROM credit WHERE worker = ?");
  const countCredit = database.prepare("SELECT COUNT(*) AS count FROM credit WHERE tokens > ?");
  const countContributors = (): number => (countCredit.get(-1) as { count: number }).count;
  const selectStandings = database.prepare(
    `SELECT credit.worker AS worker, COALESCE(worker.name, '') AS name, tokens, rounds
     FROM credit LEFT JOIN worker ON worker.id = credit.worker ORDER BY tokens DESC, credit.worker LIMIT ?`,
  );
  return {
    lastRound: () => one<StoredRound>(database, "SELECT * FROM round ORDER BY version DESC LIMIT 1"),
    lastEvaluation: () => one<EvaluationRow>(database, "SELECT * FROM evaluation ORDER BY version DESC LIMIT 1"),
    rounds: () => all<StoredRound>(database, "SELECT * FROM round ORDER BY version"),
    contributions: () => each(database, "SELECT * FROM contribution ORDER BY version, firstUnit"),
    leases: () => each(database, "SELECT * FROM lease ORDER BY version, lease"),
    returned: () => each(database, 'SELECT * FROM returned ORDER BY version, "end"'),
    evaluations: () => all<EvaluationRow>(database, "SELECT * FROM evaluation ORDER BY version"),
    workers: () => all<WorkerRow>(database, "SELECT * FROM worker ORDER BY lastSeenMs DESC"),
    events: (count) =>
      all<EventRow>(database, `SELECT atMs, code, text FROM event ORDER BY id DESC LIMIT ${count}`).reverse(),
    tokens: () => one<{ sum: number | null }>(database, "SELECT SUM(tokens) AS sum FROM round")?.sum ?? 0,
    integrity() {
      const [first] = all<{ quick_check: string }>(database, "PRAGMA quick_check(1)");
      return first === undefined || first.quick_check === "ok" ? null : first.quick_check;
    },
    bans: () => all<BanRow>(database, "SELECT * FROM ban ORDER BY atMs, worker"),
    pause: () => one<{ value: string }>(database, "SELECT value FROM setting WHERE name = 'pause'")?.value ?? null,
    contributors: countContributors,
    creditOf(id) {
      const contributors = countContributors();
      const own = selectCredit.get(id) as { tokens: number; rounds: number } | undefined;
      if (own === undefined) return { tokens: 0, rounds: 0, rank: null, contributors };
      const { count: ahead } = countCredit.get(own.tokens) as { count: number };
      return { ...own, rank: ahead + 1, contributors };
    },
    standings: (count) => selectStandings.all(count) as Standing[],
    norms(rounds) {
      const recent = all<{ version: number; norm: number; tokens: number }>(
        database,
        `SELECT version, norm, tokens FROM contribution
         WHERE version > (SELECT MAX(version) FROM round) - ${rounds} ORDER BY version, firstUnit`,
      );
      return [...Map.groupBy(recent, ({ version }) => version).values()];
    },
    close: () => database.close(),
  };
}

/** Columns that ledgers of earlier versions lack; of the rounds written then, they say 0 or nothing. */
const LATER_COLUMNS = [
  ["round", "commitMs", "REAL NOT NULL DEFAULT 0"],
  ["round", "workers", "INTEGER NOT NULL DEFAULT 0"],
  ["round", "bytesIn", "INTEGER NOT NULL DEFAULT 0"],
  ["round", "bytesOut", "INTEGER NOT NULL DEFAULT 0"],
  ["round", "baseHash", "TEXT"],
  ["round", "journal", "INTEGER"],
  ["round", "record", "INTEGER"],
  ["round", "issued", "INTEGER"],
  ["contribution", "lease", "INTEGER"],
  ["contribution", "norm", "REAL NOT NULL DEFAULT 0"],
] as const;

/** All or nothing: a process that dies in between leaves the ledger as it was. */
function migrate(database: DatabaseSync): void {
  const version = schemaVersion(database);
  if (version > SCHEMA_VERSION) throw new Error(`a ledger of schema ${version}, this program knows ${SCHEMA_VERSION}`);
  if (version === SCHEMA_VERSION) return;
  database.exec("BEGIN IMMEDIATE");
  try {
    database.exec(SCHEMA);
    for (const [table, column, type] of LATER_COLUMNS) {
      const present = all<{ name: string }>(database, `PRAGMA table_info(${table})`);
      if (!present.some(({ name }) => name === column))
        database.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${type}`);
    }
    database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
    database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

function tokensByWorker(contributions: readonly ContributionRow[]): ReadonlyMap<WorkerId, number> {
  const byWorker = new Map<WorkerId, number>();
  for (const { worker, tokens } of contributions) byWorker.set(worker, (byWorker.get(worker) ?? 0) + tokens);
  return byWorker;
}

function schemaVersion(database: DatabaseSync): number {
  return one<{ user_version: number }>(database, "PRAGMA user_version")?.user_version ?? 0;
}

function one<Row>(database: DatabaseSync, sql: string, ...values: string[]): Row | null {
  return (database.prepare(sql).get(...values) as Row | undefined) ?? null;
}

function all<Row>(database: DatabaseSync, sql: string): Row[] {
  return database.prepare(sql).all() as Row[];
}

function each<Row>(database: DatabaseSync, sql: string): Iterable<Row> {
  return database.prepare(sql).iterate() as Iterable<Row>;
}
