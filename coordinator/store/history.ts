/**
 * @file The run's past, quick to look at however long it is: a pyramid of buckets over the ledger's rounds, each level 4
 * times coarser than the one below, kept in a file of its own beside the ledger, which is only read. A million rounds are
 * shown from a few thousand buckets. The file is a cache: deleted, it is made again.
 */
import { DatabaseSync } from "node:sqlite";
import type { Curves, RunEvent, ScalingPoint } from "../../shared/wire/dashboard.ts";

export type History = {
  /** Takes in rounds that the ledger has new, a bounded number at a time; true when it has more. */
  readonly refresh: () => boolean;
  /** Rounds `from` … `to` (what is beyond the newest is left out) in at most `points` points. */
  readonly curves: (question: { from: number; to: number; points: number }) => Curves;
  /** By number of workers, fewest first; from {@link EXACT_WORKERS} on, about as many together, with their mean. */
  readonly scaling: () => ScalingPoint[];
  /** The newest `limit` events after the event `id`, oldest first. */
  readonly eventsAfter: (id: number, limit: number) => RunEvent[];
  /** The first `limit` evaluations of versions after this one. */
  readonly evaluationsAfter: (version: number, limit: number) => Curves["evaluations"];
  /** The newest version that was evaluated; 0 before the first. */
  readonly lastEvaluated: () => number;
  /** Mean validation loss of the last evaluation at or before a version; null before the first. */
  readonly validationLossAt: (version: number) => number | null;
  readonly close: () => void;
};

/** Rounds in a bucket, by level. Below the first, the rounds themselves are few enough to be read. */
const SPANS = [8, 32, 128, 512, 2048, 8192, 32_768, 131_072] as const;

/** Some milliseconds of reading: the event loop has other things to do. */
const ROUNDS_A_CALL = 5000;

/** Buckets read for a point: then every point stands for equally many rounds, and no more are read than is quick. */
const BUCKETS_A_POINT = 4;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS bucket (
    span INTEGER, first INTEGER, last INTEGER, rounds INTEGER, tokens INTEGER, lossSum REAL, lossMin REAL, lossMax REAL,
    normSum REAL, normMin REAL, normMax REAL, rateSum REAL, roundMs REAL, computeMs REAL, commitMs REAL,
    workers INTEGER, bytesIn INTEGER, bytesOut INTEGER, atMs REAL, PRIMARY KEY (span, first)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS scaling (
    workers INTEGER PRIMARY KEY, rounds INTEGER, tokens INTEGER, roundMs REAL) STRICT;
  CREATE TABLE IF NOT EXISTS taken (only INTEGER PRIMARY KEY CHECK (only = 0), version INTEGER, hash TEXT) STRICT;
`;

/** The bucket that the rounds of a group make. */
const OF_ROUNDS = `
  max(version) AS last, count(*) AS rounds, sum(tokens) AS tokens,
  sum(lossSum) AS lossSum, min(lossSum / tokens) AS lossMin, max(lossSum / tokens) AS lossMax,
  sum(gradientNorm) AS normSum, min(gradientNorm) AS normMin, max(gradientNorm) AS normMax, sum(learningRate) AS rateSum,
  sum(roundMs) AS roundMs, sum(computeMs) AS computeMs, sum(commitMs) AS commitMs, sum(workers) AS workers,
  sum(bytesIn) AS bytesIn, sum(bytesOut) AS bytesOut, max(committedMs) AS atMs`;

/** The bucket that the buckets of a group make. */
const OF_BUCKETS = `
  max(last), sum(rounds), sum(tokens), sum(lossSum), min(lossMin), max(lossMax), sum(normSum), min(normMin), max(normMax),
  sum(rateSum), sum(roundMs), sum(computeMs), sum(commitMs), sum(workers), sum(bytesIn), sum(bytesOut), max(atMs)`;

type Bucket = {
  last: number;
  rounds: number;
  tokens: number;
  lossSum: number;
  lossMin: number;
  lossMax: number;
  normSum: number;
  normMin: number;
  normMax: number;
  rateSum: number;
  roundMs: number;
  computeMs: number;
  commitMs: number;
  workers: number;
  bytesIn: number;
  bytesOut: number;
  atMs: number;
};

/** @param file of the pyramid; made when it is missing. @param ledgerFile must exist. */
export function openHistory(file: string, ledgerFile: string): History {
  const database = new DatabaseSync(file);
  // A cache needs no care: what a power cut tears is made again.
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
  database.prepare("ATTACH ? AS ledger").run(`file:${encodeURI(ledgerFile)}?mode=ro`);
  database.exec(SCHEMA);
  forgetUnlessTheSame(database);

  const newestRound = database.prepare("SELECT version, hash FROM ledger.round WHERE version <= ? ORDER BY version DESC LIMIT 1"); // prettier-ignore
  const taken = database.prepare("SELECT version FROM taken");
  const take = database.prepare("INSERT OR REPLACE INTO taken VALUES (0, ?, ?)");
  const bucketRounds = database.prepare(
    `INSERT OR REPLACE INTO bucket SELECT ${SPANS[0]}, version / ${SPANS[0]} * ${SPANS[0]}, ${OF_ROUNDS}
     FROM ledger.round WHERE version BETWEEN ? AND ? GROUP BY version / ${SPANS[0]}`,
  );
  const coarsen = SPANS.slice(1).map((span, level) => ({
    span,
    statement: database.prepare(
      `INSERT OR REPLACE INTO bucket SELECT ${span}, first / ${span} * ${span}, ${OF_BUCKETS}
       FROM bucket WHERE span = ${SPANS[level]} AND first >= ? GROUP BY first / ${span}`,
    ),
  }));
  const scale = database.prepare(
    `INSERT INTO scaling SELECT workers, count(*), sum(tokens), sum(roundMs) FROM ledger.round
     WHERE version BETWEEN ? AND ? AND workers > 0 GROUP BY workers
     ON CONFLICT DO UPDATE SET rounds = rounds + excluded.rounds, tokens = tokens + excluded.tokens,
       roundMs = roundMs + excluded.roundMs`,
  );
  const readScaling = database.prepare("SELECT * FROM scaling ORDER BY workers");
  const readBuckets = database.prepare("SELECT * FROM bucket WHERE span = ? AND first BETWEEN ? AND ? ORDER BY first");
  const readRounds = database.prepare(
    `SELECT ${OF_ROUNDS} FROM ledger.round WHERE version BETWEEN ? AND ? GROUP BY version ORDER BY version`,
  );
  const readEvents = database.prepare(
    "SELECT * FROM (SELECT id, atMs, code, text FROM ledger.event WHERE id > ? ORDER BY id DESC LIMIT ?) ORDER BY id",
  );
  const readEvaluations = database.prepare(
    `SELECT max(version) AS version, sum(lossSum) / sum(tokens) AS loss FROM ledger.evaluation
     WHERE version BETWEEN ? AND ? GROUP BY version / CAST(? AS INTEGER) ORDER BY version`,
  );
  const readEvaluation = database.prepare(
    "SELECT lossSum / tokens AS loss FROM ledger.evaluation WHERE version <= ? ORDER BY version DESC LIMIT 1",
  );

  const readEvaluationsAfter = database.prepare(
    "SELECT version, lossSum / tokens AS loss FROM ledger.evaluation WHERE version > ? ORDER BY version LIMIT ?",
  );
  const lastEvaluated = database.prepare("SELECT max(version) AS version FROM ledger.evaluation");

  const newestTaken = (): number => (taken.get() as { version: number } | undefined)?.version ?? 0;

  return {
    refresh() {
      const from = newestTaken() + 1;
      const newest = newestRound.get(from + ROUNDS_A_CALL - 1) as { version: number; hash: string } | undefined;
      if (newest === undefined || newest.version < from) return false;
      database.exec("BEGIN");
      try {
        bucketRounds.run(firstOf(from, SPANS[0]), newest.version);
        for (const { span, statement } of coarsen) statement.run(firstOf(from, span));
        scale.run(from, newest.version);
        take.run(newest.version, newest.hash);
        database.exec("COMMIT");
      } catch (error) {
        // A full disk may have ended the transaction already; a second ROLLBACK would hide the reason.
        if (database.isTransaction) database.exec("ROLLBACK");
        throw error;
      }
      return newest.version === from + ROUNDS_A_CALL - 1;
    },

    curves({ from, to, points }) {
      const newest = newestTaken();
      const last = Math.min(to, newest);
      const rounds = Math.max(0, last - from + 1);
      const isShort = rounds <= BUCKETS_A_POINT * points;
      const span = isShort ? 1 : (SPANS.find((size) => rounds / size <= BUCKETS_A_POINT * points) ?? SPANS.at(-1)!);
      const buckets = (isShort ? readRounds.all(from, last) : readBuckets.all(span, firstOf(from, span), last)) as Bucket[]; // prettier-ignore
      const together = Math.max(1, Math.ceil(buckets.length / points));
      const evaluations = readEvaluations.all(from, last, Math.max(1, Math.ceil(rounds / points)));
      return {
        ...columns(combine(buckets, together)),
        from,
        to: last,
        span: span * together,
        newest,
        evaluations: evaluationColumns(evaluations),
      };
    },

    scaling: () => about(readScaling.all() as ScalingPoint[]),
    eventsAfter: (id, limit) => readEvents.all(id, limit) as RunEvent[],
    evaluationsAfter: (version, limit) => evaluationColumns(readEvaluationsAfter.all(version, limit)),
    lastEvaluated: () => (lastEvaluated.get() as { version: number | null }).version ?? 0,
    validationLossAt: (version) => (readEvaluation.get(version) as { loss: number } | undefined)?.loss ?? null,
    close: () => database.close(),
  };
}

/** What was taken in from rounds that the ledger has lost since (θ could not be recovered so far) is taken in again. */
function forgetUnlessTheSame(database: DatabaseSync): void {
  const { lost } = database
    .prepare(
      `SELECT count(*) AS lost FROM taken LEFT JOIN ledger.round USING (version) WHERE round.hash IS NOT taken.hash`,
    )
    .get() as { lost: number };
  if (lost > 0) database.exec("DELETE FROM bucket; DELETE FROM scaling; DELETE FROM taken");
}

/** The bucket that holds a version begins here. */
function firstOf(version: number, span: number): number {
  return Math.floor(version / span) * span;
}

/** Fewer than this are told apart; of more, those within a tenth are one point: a run of many volunteers has every number. */
const EXACT_WORKERS = 16;

function about(points: readonly ScalingPoint[]): ScalingPoint[] {
  const groups = Map.groupBy(points, ({ workers }) => (workers < EXACT_WORKERS ? workers : EXACT_WORKERS + Math.round(Math.log(workers / EXACT_WORKERS) / Math.log(1.1)))); // prettier-ignore
  return [...groups.values()].map((group) => {
    const sum = (value: (point: ScalingPoint) => number): number =>
      group.reduce((total, point) => total + value(point), 0);
    const rounds = sum((point) => point.rounds);
    const workers = Math.round(sum((point) => point.workers * point.rounds) / rounds);
    return { workers, rounds, tokens: sum(({ tokens }) => tokens), roundMs: sum(({ roundMs }) => roundMs) };
  });
}

/** Every `together` buckets in a row as one. */
function combine(buckets: readonly Bucket[], together: number): Bucket[] {
  if (together === 1) return [...buckets];
  const combined: Bucket[] = [];
  for (const [index, bucket] of buckets.entries()) {
    const into = combined.at(-1);
    if (into === undefined || index % together === 0) {
      combined.push({ ...bucket });
      continue;
    }
    into.last = bucket.last;
    into.atMs = bucket.atMs;
    for (const sum of SUMS) into[sum] += bucket[sum];
    for (const least of ["lossMin", "normMin"] as const) into[least] = Math.min(into[least], bucket[least]);
    for (const greatest of ["lossMax", "normMax"] as const) into[greatest] = Math.max(into[greatest], bucket[greatest]);
  }
  return combined;
}

const SUMS = ["rounds", "tokens", "lossSum", "normSum", "rateSum", "roundMs", "computeMs", "commitMs", "workers", "bytesIn", "bytesOut"] as const; // prettier-ignore

function columns(buckets: readonly Bucket[]): Omit<Curves, "from" | "to" | "span" | "newest" | "evaluations"> {
  const column = (value: (bucket: Bucket) => number): number[] => buckets.map((bucket) => digits(value(bucket)));
  return {
    version: buckets.map(({ last }) => last),
    atMs: buckets.map(({ atMs }) => Math.round(atMs)),
    loss: column(({ lossSum, tokens }) => lossSum / tokens),
    lossMin: column(({ lossMin }) => lossMin),
    lossMax: column(({ lossMax }) => lossMax),
    gradientNorm: column(({ normSum, rounds }) => normSum / rounds),
    gradientNormMin: column(({ normMin }) => normMin),
    gradientNormMax: column(({ normMax }) => normMax),
    learningRate: column(({ rateSum, rounds }) => rateSum / rounds),
    tokensPerSecond: column(({ tokens, roundMs }) => perSecond(tokens, roundMs)),
    bytesInPerSecond: column(({ bytesIn, roundMs }) => perSecond(bytesIn, roundMs)),
    bytesOutPerSecond: column(({ bytesOut, roundMs }) => perSecond(bytesOut, roundMs)),
    roundMs: column(({ roundMs, rounds }) => roundMs / rounds),
    computeMs: column(({ computeMs, rounds }) => computeMs / rounds),
    commitMs: column(({ commitMs, rounds }) => commitMs / rounds),
    workers: column(({ workers, rounds }) => workers / rounds),
  };
}

function evaluationColumns(rows: readonly unknown[]): Curves["evaluations"] {
  const evaluations = rows as readonly { readonly version: number; readonly loss: number }[];
  return { version: evaluations.map(({ version }) => version), loss: evaluations.map(({ loss }) => digits(loss)) };
}

function perSecond(amount: number, ms: number): number {
  return ms > 0 ? (1000 * amount) / ms : 0;
}

/** Six significant digits: finer than any screen, and half the bytes. */
function digits(value: number): number {
  return Number(value.toPrecision(6));
}
