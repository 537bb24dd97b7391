/**
 * @file θ of one run and its optimizer, durable: contributions in, updates out, and the same bits again after a kill -9.
 *
 * A step is in the journal before its update exists; snapshots are written beside the training and cut the journal's
 * length. Restart: the newest snapshot that is whole, then the journals' steps taken again, up to the version that the
 * ledger committed last; a step that was journalled but not committed is forgotten, and its samples are leased anew.
 */

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Codec, PayloadProblem } from "../../shared/codec/codec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { createArena, initialState, type Arena, type ArenaStep, type OptimizerConfig } from "./arena.ts";
import {
  journalPath,
  openJournal,
  readJournal,
  recordBytes,
  removeJournals,
  type JournalFile,
} from "../store/journal.ts";
import { mergeComplete, startMerge, takePart, type MergeRefusal, type MergeState, type Part } from "./merge.ts";
import { describeNorm, weigh } from "../round/normGuard.ts";
import type { NormBounds } from "../round/normGuard.ts";
import { listSnapshots, newestSnapshot, pruneSnapshots, setAside, writeSnapshot, type Skipped, type SnapshotName } from "../store/snapshot.ts"; // prettier-ignore

export type ContributionProblem = PayloadProblem | MergeRefusal | "stale" | "norm";

export type Received =
  | { readonly ok: true; readonly norm: number }
  /** `norm` where the values were in order. */
  | { readonly ok: false; readonly problem: ContributionProblem; readonly reason: string; readonly norm?: number };

/** Where a step's gradient lies: which journal (the version of its snapshot), which record of it. */
export type JournalPlace = { readonly journal: number; readonly record: number };

export type OptimizerStep =
  (Omit<Extract<ArenaStep, { applied: true }>, "synced"> & JournalPlace) | Extract<ArenaStep, { applied: false }>;

export type Optimizer = {
  /** Version of θ: the number of steps applied in this run. */
  readonly version: () => number;
  readonly hash: () => string;
  /** θ_pub: a view, whole at any moment in which no promise is awaited; copy it to keep it. */
  readonly params: () => Float32Array;
  /**
   * θ_pub with that hash: the newest one or, until the next step begins, the one before, which is still the published one
   * while its successor is being synced and committed. Null for any other. A view, as {@link Optimizer.params}.
   */
  readonly paramsOf: (hash: string) => Float32Array | null;
  /** Checks a contribution of the current round and adds it when its turn comes. Resolves when it is checked. No bounds: any norm. */
  readonly receive: (part: Part & { payload: Uint8Array; bounds?: NormBounds }) => Promise<Received>;
  /**
   * Steps on the round's sum, durably, and begins the next round. Not applied: θ is as before and the round begins anew.
   *
   * @throws Error of the file system when the journal cannot be written or synced: ask for the same step again.
   */
  readonly step: (round: { version: number; tokens: number; learningRate: number }) => Promise<OptimizerStep>;
  /**
   * Writes a snapshot of θ as it is when no step is under way, while training goes on; resolves when it is durable and what
   * it replaces is removed.
   *
   * @throws Error of the file system; the journals then still lead from the snapshot before to the present.
   */
  readonly snapshot: () => Promise<SnapshotName>;
  /** Steps and bytes that a restart would take again: when large, a snapshot is due. */
  readonly journal: () => { readonly records: number; readonly bytes: number };
  /** Waits for a snapshot being written; ends the threads. */
  readonly close: () => Promise<void>;
};

export type Recovery = {
  /** Version of the snapshot that recovery began with; null when it began with the initial parameters. */
  readonly snapshot: number | null;
  /** Steps taken again. */
  readonly replayed: number;
  readonly skipped: readonly Skipped[];
};

export type OptimizerOptions = {
  /** Snapshots and journals; made when it is not there. */
  readonly dir: string;
  readonly layout: ParamLayout;
  readonly codec: Codec;
  readonly optimizer: OptimizerConfig;
  readonly threads: number;
  /** Units of a round. */
  readonly units: number;
  /** Contributions that may wait for their turn, each one payload in memory. */
  readonly maxWaiting: number;
  /** θ_0, for a run that has no snapshot. */
  readonly initial: () => Float32Array;
  /** The version that the ledger committed last; what lies beyond is forgotten. */
  readonly until: number;
  /** Into each snapshot's params file. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Snapshots kept, and the journals back to the oldest of them: with 2, a newest snapshot that turns out corrupt loses
   * no committed round.
   */
  readonly keep: number;
  /** Journal to the disk, not only to the page cache: a power cut then loses no step either. */
  readonly sync: boolean;
  /** For tests: how a file's data is brought to the disk. */
  readonly syncFile?: (fd: number) => Promise<void>;
  /** Each step that recovery takes again, for the updates to be published again. */
  readonly onReplayed?: (step: { version: number; hash: string; update: Uint8Array<ArrayBuffer> }) => void;
};

/** Opens a run's θ, new or where it was. The caller compares version and hash with its ledger. */
export async function openOptimizer(options: OptimizerOptions): Promise<{ optimizer: Optimizer; recovery: Recovery }> {
  const { dir, layout, codec, sync, keep, units, maxWaiting } = options;
  await mkdir(dir, { recursive: true });
  const arena = createArena({
    layout,
    codec,
    optimizer: options.optimizer,
    threads: options.threads,
    syncFile: options.syncFile,
  });
  try {
    const recovered = await recover(arena, options);
    let { file, version } = recovered;
    let merge: MergeState<StagedPart> = startMerge(units);
    let round = 0;
    /** The step under way. */
    let stepping: Promise<unknown> | null = null;
    /** θ has taken this step, and its record is not known to be on the disk. */
    let unsynced: { version: number; step: Extract<OptimizerStep, { applied: true }>; synced: Promise<void> | null } | null = null; // prettier-ignore
    /** Settles when steps may go to `file`. */
    let rotating: Promise<void> = Promise.resolve();
    let writing: Promise<SnapshotName> | null = null;

    const beginRound = (): void => {
      for (const part of merge.waiting) arena.discard(part.staged);
      merge = startMerge(units);
      round += 1;
    };

    const takeStep = async (next: number, tokens: number, learningRate: number): Promise<OptimizerStep> => {
      if (unsynced === null) {
        if (next !== version + 1) throw new Error(`a step to version ${next}, θ is at ${version}`);
        if (!mergeComplete(merge)) throw new Error(`a step on units up to ${merge.next} of ${merge.units}`);
        await rotating;
        const place = file.journal();
        const result = await arena.step({ tokens, learningRate, journal: { file: place, version: next, sync } });
        beginRound();
        if (!result.applied) return result;
        file.appended();
        version = next;
        const { synced, ...step } = result;
        unsynced = { version, step: { ...step, journal: place.snapshotVersion, record: place.records }, synced };
      } else if (next !== unsynced.version) {
        throw new Error(`a step to version ${next}, the one to ${unsynced.version} is not on the disk`);
      }
      const { step, synced } = unsynced;
      unsynced.synced = null;
      await (synced ?? arena.writeRecordAgain());
      unsynced = null;
      return step;
    };

    const rotate = async (snapshotVersion: number): Promise<void> => {
      const next = await openJournal({ dir, snapshotVersion, length: layout.length, sync });
      const last = file;
      file = next;
      await last.close();
    };

    const writeNow = async (): Promise<SnapshotName> => {
      const at = version;
      const copying = arena.state();
      if (file.journal().snapshotVersion !== at) {
        const rotated = rotate(at);
        rotating = rotated.catch(() => {});
        await rotated;
      }
      const name = await writeSnapshot({ dir, version: at, layout, state: await copying, metadata: options.metadata });
      await pruneSnapshots(dir, keep);
      // Older files that were kept are θ alone, for people to look at.
      const oldest = (await listSnapshots(dir)).slice(0, keep).at(-1)?.version ?? at;
      await removeJournals(dir, (base) => base < oldest);
      return name;
    };

    const optimizer: Optimizer = {
      version: () => version,
      hash: () => arena.hash(),
      params: () => arena.params(),
      paramsOf: (hash) => arena.paramsOf(hash),
      async receive({ firstUnit, units: count, payload, bounds }) {
        const began = round;
        const checked = await arena.check(payload);
        if (!checked.ok) {
          const reason = `units ${firstUnit} to ${firstUnit + count - 1}: ${problemText[checked.problem]}`;
          return { ok: false, problem: checked.problem, reason };
        }
        const { staged } = checked;
        if (began !== round) {
          arena.discard(staged);
          return {
            ok: false,
            problem: "stale",
            reason: `units ${firstUnit} to ${firstUnit + count - 1} of a round that ended`,
          };
        }
        const norm = Math.sqrt(staged.squaredNorm);
        const weight = bounds === undefined ? 1 : weigh(bounds, norm);
        if (weight === null) {
          arena.discard(staged);
          return { ok: false, problem: "norm", reason: describeNorm(norm, bounds?.limit ?? Infinity), norm };
        }
        const decision = takePart(merge, { firstUnit, units: count, staged, weight }, maxWaiting);
        merge = decision.state;
        if ("refused" in decision) {
          arena.discard(staged);
          return { ok: false, problem: decision.refused, reason: decision.reason };
        }
        // Not awaited: the step is posted behind them. An arena that breaks rejects the step, too, and every check.
        for (const part of decision.add) arena.add(part.staged, part.weight).catch(() => {});
        return { ok: true, norm };
      },
      async step({ version: next, tokens, learningRate }) {
        if (stepping !== null) throw new Error("a step is under way");
        const step = takeStep(next, tokens, learningRate);
        stepping = step.catch(() => {});
        try {
          return await step;
        } finally {
          stepping = null;
        }
      },
      async snapshot() {
        for (let step = stepping; step !== null; step = stepping) await step;
        if (unsynced !== null) throw new Error(`a snapshot of version ${version}, whose step is not on the disk`);
        if (writing !== null) return writing;
        writing = writeNow();
        try {
          return await writing;
        } finally {
          writing = null;
        }
      },
      journal() {
        const { records } = file.journal();
        return { records, bytes: records * recordBytes(layout.length) };
      },
      async close() {
        await writing?.catch(() => {});
        await arena.close();
        await file.close();
      },
    };
    return { optimizer, recovery: recovered.recovery };
  } catch (error) {
    await arena.close();
    throw error;
  }
}

type StagedPart = Part & { readonly staged: Parameters<Arena["add"]>[0]; readonly weight: number };

const problemText: Readonly<Record<PayloadProblem, string>> = {
  length: "the payload is not of the codec's length for this model",
  nonFinite: "the payload holds NaN or infinity",
  quant: "the payload holds a quant that no encoder makes",
  exponent: "the payload holds an exponent that no encoder makes",
};

/** Brings the arena to the last version that files and `until` allow, and opens the journal to go on with. */
async function recover(
  arena: Arena,
  { dir, layout, initial, until, sync, onReplayed }: OptimizerOptions,
): Promise<{ file: JournalFile; version: number; recovery: Recovery }> {
  const ahead = await setAside(dir, until);
  const { snapshot, skipped } = await newestSnapshot(dir, layout);
  arena.restore(snapshot?.state ?? initialState(initial()));
  let version = snapshot?.version ?? 0;
  let base = version;
  let records = 0;
  let replayed = 0;
  // A journal ends where the next snapshot began; where that one was not finished, its journal goes on.
  for (;;) {
    records = 0;
    for await (const record of readJournal(journalPath(dir, base), layout.length)) {
      const follows =
        record.version === version + 1 && record.baseHash === arena.hash() && record.step === arena.steps() + 1;
      if (!follows || record.version > until) break;
      const step = await arena.replay(record);
      if (!step.applied)
        throw new Error(`journal ${base}: the step to version ${record.version} cannot be taken again`);
      version = record.version;
      records += 1;
      replayed += 1;
      onReplayed?.({ version, hash: step.hash, update: step.update });
    }
    if (records === 0 || version === until || !existsSync(journalPath(dir, version))) break;
    base = version;
  }
  // What lies beyond was never committed: left in place, it would be taken for what comes next.
  await removeJournals(dir, (other) => other > base);
  const file = await openJournal({ dir, snapshotVersion: base, length: layout.length, records, sync });
  return {
    file,
    version,
    recovery: { snapshot: snapshot?.version ?? null, replayed, skipped: [...ahead, ...skipped] },
  };
}
