/**
 * @file Proves a run from its ledger [I2][I4]: every sample of every epoch exactly once, every unit of every round from one
 * lease, tokens and losses that add up, hashes that chain, and files that are what the ledger says they are. The ledger is
 * read once, in order; the first thing that is wrong is named.
 */
import { open } from "node:fs/promises";
import { hashParams } from "../../shared/numerics/hash.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { sampleOrder, type Sampling } from "../../shared/data/windows.ts";
import { RECORD_HEADER_BYTES, decodeRecordHeader, journalPath, recordBytes } from "./journal.ts";
import type { LedgerReader, StoredContribution, StoredRound } from "./ledger.ts";
import type { LeaseEnd, LeaseOutcome, ReturnedLeases } from "../round/leaseAccount.ts";
import { listSnapshots, readParamsFile } from "./snapshot.ts";

export type AuditSubject = {
  readonly ledger: LedgerReader;
  /** Snapshots and journals. */
  readonly snapshotDir: string;
  readonly layout: ParamLayout;
  /** Tokens of the training split. */
  readonly trainTokens: number;
  /** Target tokens of a sample. */
  readonly context: number;
  readonly seed: number;
  readonly sampling: Sampling;
};

export type ViolationCode =
  | "ledger"
  | "versions"
  | "intervals"
  | "tokens"
  | "units"
  | "loss"
  | "chain"
  | "leases"
  | "samples"
  | "evaluations"
  | "journal"
  | "snapshot";

export type AuditReport = {
  /** Null when everything is as it must be. */
  readonly violation: { readonly code: ViolationCode; readonly message: string } | null;
  readonly rounds: number;
  readonly samples: number;
  readonly tokens: number;
  readonly contributions: number;
  /** Complete epochs, and the samples of the one under way. */
  readonly epochs: number;
  readonly samplesPerEpoch: number;
  /** Units handed out in all the rounds, and how those that were not merged came back. */
  readonly issued: number;
  readonly returned: Readonly<Partial<Record<LeaseEnd, number>>>;
  readonly evaluations: number;
  /** The newest snapshot, whose content was hashed; null when there is none. */
  readonly snapshot: { readonly version: number; readonly hash: string } | null;
  /** What could not be checked, and why. */
  readonly notes: readonly string[];
};

class Violation extends Error {
  readonly code: ViolationCode;
  constructor(code: ViolationCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Cost: 0.13 µs of processor time a sample for the order of samples (2 million samples, 2-core EPYC, 2026-11-22), one bit of
 * memory a sample of an epoch, and one pass over the ledger and over the newest snapshot.
 */
export async function audit(subject: AuditSubject): Promise<AuditReport> {
  const found = {
    rounds: 0,
    samples: 0,
    tokens: 0,
    contributions: 0,
    epochs: 0,
    samplesPerEpoch: 0,
    issued: 0,
    returned: {} as Partial<Record<LeaseEnd, number>>,
    evaluations: 0,
    snapshot: null as AuditReport["snapshot"],
    notes: [] as string[],
  };
  try {
    const problem = subject.ledger.integrity();
    if (problem !== null) throw new Violation("ledger", `the ledger's file is damaged: ${problem}`);
    const rounds = subject.ledger.rounds();
    checkRounds(subject, rounds, found);
    Object.assign(found, checkSamples(subject, rounds));
    if (subject.sampling === "random") {
      found.notes.push("samples are drawn at random: each position was trained on once, a window may come more often");
    }
    checkEvaluations(subject, rounds.length, found);
    await checkJournals(subject, rounds, found);
    await checkSnapshots(subject, rounds, found);
    return { violation: null, ...found };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { violation: { code: error.code, message: error.message }, ...found };
  }
}

type Found = { -readonly [Key in keyof Omit<AuditReport, "violation">]: AuditReport[Key] } & {
  returned: Partial<Record<LeaseEnd, number>>;
  notes: string[];
};

function checkRounds({ ledger, context }: AuditSubject, rounds: readonly StoredRound[], found: Found): void {
  const contributions = groups(ledger.contributions());
  const leases = groups(ledger.leases());
  const returned = groups(ledger.returned());
  let [origin, unchained, unaccounted] = [0, 0, 0];
  let before: StoredRound | null = null;
  for (const round of rounds) {
    const { version } = round;
    const expected = (before?.version ?? 0) + 1;
    if (version !== expected) throw new Violation("versions", `round ${version} follows where ${expected} must be`);
    if (round.origin !== origin || !(round.samples > 0)) {
      throw new Violation(
        "intervals",
        `round ${version} covers ${round.samples} samples from ${round.origin}, the next one is sample ${origin}`,
      );
    }
    if (round.tokens !== round.samples * context) {
      throw new Violation(
        "tokens",
        `round ${version} counts ${round.tokens} tokens, ${round.samples} samples have ${round.samples * context}`,
      );
    }
    if (round.baseHash === null) unchained += 1;
    else if (before !== null && round.baseHash !== before.hash) {
      throw new Violation(
        "chain",
        `round ${version} was taken at θ ${round.baseHash}, round ${before.version} led to ${before.hash}`,
      );
    }
    const parts = contributions(version);
    checkUnits(round, parts, context);
    if (round.issued === null) unaccounted += 1;
    else checkLeases(round, parts, leases(version), returned(version), found);
    found.rounds += 1;
    found.samples += round.samples;
    found.tokens += round.tokens;
    found.contributions += parts.length;
    found.issued += round.issued ?? 0;
    origin += round.samples;
    before = round;
  }
  for (const [what, rest] of [
    ["contributions", contributions.rest()],
    ["leases", leases.rest()],
    ["returned leases", returned.rest()],
  ] as const) {
    if (rest !== null) throw new Violation("units", `there are ${what} of round ${rest}, which was not committed`);
  }
  if (unchained > 0) {
    const what = "were written by an older version that kept neither the hash they were taken at nor their leases";
    found.notes.push(`${Math.max(unchained, unaccounted)} rounds ${what}`);
  }
}

/** Every unit of the round once. A unit's size follows from the tokens: all are equal but the last, which may be shorter. */
function checkUnits(round: StoredRound, parts: readonly StoredContribution[], context: number): void {
  const { version } = round;
  let [nextUnit, samples, lossSum] = [0, 0, 0];
  let unit: number | null = null;
  for (const [index, part] of parts.entries()) {
    const last = part.firstUnit + part.units - 1;
    if (part.firstUnit !== nextUnit || !(part.units > 0)) {
      const problem = part.firstUnit < nextUnit ? "were merged already" : `come where unit ${nextUnit} must be`;
      throw new Violation("units", `round ${version}: units ${part.firstUnit} to ${last} ${problem}`);
    }
    const theirs = part.tokens / context;
    const isLast = index === parts.length - 1;
    if (!isLast) unit ??= theirs / part.units;
    const fits =
      Number.isInteger(theirs) &&
      (unit === null || (isLast ? theirs <= part.units * unit && theirs > (part.units - 1) * unit : theirs === part.units * unit)); // prettier-ignore
    if (!fits) {
      throw new Violation("tokens", `round ${version}: units ${part.firstUnit} to ${last} count ${part.tokens} tokens`);
    }
    nextUnit += part.units;
    samples += theirs;
    lossSum += part.lossSum;
  }
  if (samples !== round.samples) {
    throw new Violation("units", `round ${version}: its contributions cover ${samples} of ${round.samples} samples`);
  }
  // In unit order, as the coordinator adds: the same bits.
  if (lossSum !== round.lossSum) {
    throw new Violation("loss", `round ${version}: its contributions' losses add up to ${lossSum}, not ${round.lossSum}`); // prettier-ignore
  }
}

/** issued = committed ∪ returned, disjoint: nothing is leased any more when a round is committed. */
function checkLeases(
  { version, issued }: StoredRound,
  parts: readonly StoredContribution[],
  leases: readonly LeaseOutcome[],
  returned: readonly ReturnedLeases[],
  found: Found,
): void {
  const byId = new Map(leases.map((lease) => [lease.lease, { lease, merged: 0 }]));
  for (const { lease: id, worker, firstUnit, units } of parts) {
    const entry = id === null ? undefined : byId.get(id);
    if (entry === undefined) throw new Violation("leases", `round ${version}: unit ${firstUnit} was merged without a lease`); // prettier-ignore
    const { lease } = entry;
    if (worker !== lease.worker || firstUnit < lease.firstUnit || firstUnit + units > lease.firstUnit + lease.units) {
      throw new Violation(
        "leases",
        `round ${version}: unit ${firstUnit} of ${worker} is not part of lease ${lease.lease} of ${lease.worker}`,
      );
    }
    entry.merged += units;
  }
  let total = 0;
  for (const { lease, merged } of byId.values()) {
    if (merged === 0 || merged + lease.returned !== lease.units || lease.returned > 0 !== (lease.end !== null)) {
      throw new Violation(
        "leases",
        `round ${version}: lease ${lease.lease} of ${lease.units} units: ${merged} were merged, ${lease.returned} returned`,
      );
    }
    total += lease.units;
    if (lease.end !== null) found.returned[lease.end] = (found.returned[lease.end] ?? 0) + lease.returned;
  }
  for (const { end, units } of returned) {
    total += units;
    found.returned[end] = (found.returned[end] ?? 0) + units;
  }
  if (total !== issued) {
    throw new Violation("leases", `round ${version}: ${issued} units were handed out, ${total} are accounted for`);
  }
}

/** The order of samples, computed anew: a window that comes twice in an epoch, or never in a complete one, is found here. */
export function checkSamples(
  { trainTokens, context, seed, sampling }: Pick<AuditSubject, "trainTokens" | "context" | "seed" | "sampling">,
  rounds: readonly Pick<StoredRound, "version" | "origin" | "samples">[],
): Pick<AuditReport, "epochs" | "samplesPerEpoch"> {
  const order = sampleOrder({ tokens: trainTokens, context, seed, sampling });
  const { samplesPerEpoch } = order;
  const last = rounds.at(-1);
  const epochs = Math.floor(last === undefined ? 0 : (last.origin + last.samples) / samplesPerEpoch);
  if (sampling === "random") return { epochs, samplesPerEpoch };
  const seen = new Uint8Array(Math.ceil(samplesPerEpoch / 8));
  let [epoch, count] = [0, 0];
  for (const { version, origin, samples } of rounds) {
    for (let position = origin; position < origin + samples; position++) {
      const its = Math.floor(position / samplesPerEpoch);
      if (its !== epoch) {
        if (count !== samplesPerEpoch) {
          throw new Violation("samples", `epoch ${epoch} has ${count} of its ${samplesPerEpoch} samples`);
        }
        seen.fill(0);
        [epoch, count] = [its, 0];
      }
      const window = order.offsetOf(position) / context;
      const [byte, bit] = [window >> 3, 1 << (window & 7)];
      if (((seen[byte] ?? 0xff) & bit) !== 0) {
        throw new Violation("samples", `round ${version}: window ${window} for the second time in epoch ${epoch}`);
      }
      seen[byte]! |= bit;
      count += 1;
    }
  }
  return { epochs, samplesPerEpoch };
}

function checkEvaluations({ ledger, context }: AuditSubject, newest: number, found: Found): void {
  for (const { version, samples, tokens, lossSum } of ledger.evaluations()) {
    if (!Number.isInteger(version) || version < 0 || version > newest) {
      throw new Violation("evaluations", `there is an evaluation of version ${version}, the newest is ${newest}`);
    }
    if (!(samples > 0) || tokens !== samples * context || !Number.isFinite(lossSum)) {
      throw new Violation(
        "evaluations",
        `the evaluation of version ${version}: ${tokens} tokens of ${samples} samples`,
      );
    }
    found.evaluations += 1;
  }
}

/** The records that are still there, by their headers: the gradients are read when a coordinator recovers. */
async function checkJournals(
  { snapshotDir, layout }: AuditSubject,
  rounds: readonly StoredRound[],
  found: Found,
): Promise<void> {
  const newest = (await listSnapshots(snapshotDir))[0]?.version ?? 0;
  const header = new Uint8Array(RECORD_HEADER_BYTES);
  // Who recovers begins at a snapshot: of the rounds before the newest, another one may be all there is.
  for (const { version, journal, record, baseHash, tokens, learningRate } of rounds) {
    if (version <= newest || journal === null || record === null) continue;
    const path = journalPath(snapshotDir, journal);
    const file = await open(path, "r").catch(() => null);
    if (file === null)
      throw new Violation("journal", `round ${version}: its gradient must be in ${path}, which is missing`);
    try {
      await file.read(header, 0, header.length, record * recordBytes(layout.length));
      const { size } = await file.stat();
      const found = decodeRecordHeader(header);
      const same =
        found?.version === version &&
        found.baseHash === baseHash &&
        found.tokens === tokens &&
        found.learningRate === learningRate &&
        size >= (record + 1) * recordBytes(layout.length);
      if (!same) throw new Violation("journal", `round ${version}: record ${record} of ${path} is not its gradient`);
    } finally {
      await file.close();
    }
  }
  if (rounds.length > 0 && newest === 0) found.notes.push("there is no snapshot after version 0 yet");
}

async function checkSnapshots(
  { snapshotDir, layout }: AuditSubject,
  rounds: readonly StoredRound[],
  found: Found,
): Promise<void> {
  const [newest] = await listSnapshots(snapshotDir);
  if (newest === undefined) {
    found.notes.push(`there are no snapshots in ${snapshotDir}`);
    return;
  }
  const expected = newest.version === 0 ? rounds[0]?.baseHash : rounds[newest.version - 1]?.hash;
  if (newest.version > rounds.length) {
    throw new Violation(
      "snapshot",
      `${newest.paramsPath}: version ${newest.version}, the ledger ends at ${rounds.length}`,
    );
  }
  if (typeof expected === "string" && expected !== newest.hash) {
    throw new Violation(
      "snapshot",
      `${newest.paramsPath}: the ledger has hash ${expected} for version ${newest.version}`,
    );
  }
  const hash = await readParamsFile(newest.paramsPath, layout).then(
    ({ params }) => hashParams(params),
    (error: Error) => error.message,
  );
  if (hash !== newest.hash) throw new Violation("snapshot", `${newest.paramsPath}: its content has hash ${hash}`);
  found.snapshot = { version: newest.version, hash };
}

type Groups<Row> = {
  /** The rows of one version; versions must be asked for in order. */
  (version: number): Row[];
  /** The version of the next row that nobody asked for; null when there is none. */
  readonly rest: () => number | null;
};

/** Rows that come ordered by version, a version at a time: the whole table may be too large for memory. */
function groups<Row extends { readonly version: number }>(rows: Iterable<Row>): Groups<Row> {
  const iterator = rows[Symbol.iterator]();
  let next = iterator.next();
  let stray: number | null = null;
  const take = (version: number): Row[] => {
    const group: Row[] = [];
    for (; !next.done && next.value.version <= version; next = iterator.next()) {
      if (next.value.version === version) group.push(next.value);
      else stray ??= next.value.version;
    }
    return group;
  };
  return Object.assign(take, { rest: () => stray ?? (next.done ? null : next.value.version) });
}
