/**
 * @file θ and its optimizer as coordinator/optimizer/optimize.ts keeps them, on a disk that outlives the coordinator: the same codec,
 * merge order, AdamW, journal and replay, on one thread and in memory. (The real one, with threads and files, has its
 * own tests; ten thousand of them would need ten thousand threads.)
 */
import type { StepResult } from "../../../coordinator/round/run.ts";
import type { BanRow, ContributionRow, EvaluationRow, RoundRow } from "../../../coordinator/store/ledger.ts";
import { mergeComplete, startMerge, takePart } from "../../../coordinator/optimizer/merge.ts";
import type { Part } from "../../../coordinator/optimizer/merge.ts";
import { checkPayload, decodeAdd, decodeApply, encoded } from "../../../shared/codec/codec.ts";
import { adamw } from "../../../shared/numerics/adamw.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { squaredNorm } from "../../../shared/numerics/norm.ts";
import { roundScaled, subtract } from "../../../shared/numerics/sum.ts";
import type { RefusalCode } from "../../../shared/wire/protocol.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

type State = { version: number; params: Float32Array; master: Float32Array; m: Float32Array; v: Float32Array };

type JournalEntry = {
  readonly version: number;
  readonly tokens: number;
  readonly learningRate: number;
  readonly baseHash: string;
  readonly gradient: Float32Array;
};

/** What a killed coordinator leaves behind. */
export type Disk = {
  snapshot: State | null;
  journal: JournalEntry[];
  readonly rounds: RoundRow[];
  readonly contributions: Map<number, readonly ContributionRow[]>;
  readonly evaluations: EvaluationRow[];
  readonly secrets: Map<string, string>;
  paused: string | null;
  readonly bans: Map<string, BanRow>;
};

export function emptyDisk(): Disk {
  return {
    snapshot: null,
    journal: [],
    rounds: [],
    contributions: new Map(),
    evaluations: [],
    secrets: new Map(),
    paused: null,
    bans: new Map(),
  };
}

export type SimOptimizer = {
  readonly version: () => number;
  readonly hash: () => string;
  readonly params: () => Float32Array;
  /** As the arena's check: what is wrong with the payload, or null. */
  readonly check: (payload: Uint8Array) => { code: RefusalCode; message: string } | null;
  readonly add: (part: Part & { payload: Uint8Array }) => { code: RefusalCode; message: string } | null;
  /** For planted bugs: what a merge must never do. Adds whatever it is given, or each part when it comes. */
  readonly addUnchecked: (payload: Uint8Array) => void;
  readonly addAsItComes: SimOptimizer["add"];
  /** The gradient's way into the journal: durable from here on. */
  readonly journalStep: (round: { version: number; tokens: number; learningRate: number }) => void;
  /** Takes the journalled step. */
  readonly step: () => StepResult;
  /** θ and the optimizer to the disk; the journal's steps up to here are not needed any more. */
  readonly snapshot: () => void;
};

const ADAMW = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1 };

const refusalOf = { length: "wrong-size", nonFinite: "not-finite", quant: "bad-encoding", exponent: "bad-encoding" } as const; // prettier-ignore

export function openSimOptimizer(
  world: World,
  disk: Disk,
  onReplayed: (update: { version: number; hash: string; payload: Uint8Array }) => void,
): SimOptimizer {
  // prettier-ignore
  const { layout, codec, config } = world;
  const units = Math.ceil(config.batch / config.unit);
  const state = disk.snapshot === null ? firstState(world) : copyState(disk.snapshot);
  const total = new Float64Array(layout.length);
  let hash = hashParams(state.params);
  let merge = startMerge<Part & { payload: Uint8Array }>(units);

  function take(entry: JournalEntry): StepResult {
    const norm = Math.sqrt(squaredNorm(entry.gradient));
    // Not clipped: scaled down by the largest elements, the low bits of the others would not show in θ.
    const options = { ...ADAMW, learningRate: entry.learningRate, step: entry.version, gradientScale: 1 };
    adamw({ params: state.master, m: state.m, v: state.v }, entry.gradient, options, layout);
    const difference = new Float32Array(layout.length);
    subtract(difference, state.master, state.params);
    const update = encoded(codec, difference);
    decodeApply(codec, update, state.params);
    state.version = entry.version;
    hash = hashParams(state.params);
    return { applied: true, gradientNorm: norm, update, hash, journal: 0, record: 0 };
  }

  const committed = disk.rounds.at(-1)?.version ?? 0;
  disk.journal = disk.journal.filter(({ version }) => version <= committed);
  for (const entry of disk.journal) {
    if (entry.version <= state.version) continue;
    if (entry.version !== state.version + 1 || entry.baseHash !== hash) throw new Violation("I4", `the journal has a gap at version ${entry.version}`); // prettier-ignore
    const step = take(entry);
    if (step.applied) onReplayed({ version: entry.version, hash: step.hash, payload: step.update });
  }
  if (state.version !== committed)
    throw new Violation("I4", `recovered version ${state.version}, the ledger has ${committed}`);

  return {
    version: () => state.version,
    hash: () => hash,
    params: () => state.params,
    check(payload) {
      const { problem } = checkPayload(codec, payload, layout.length);
      return problem === undefined ? null : { code: refusalOf[problem], message: problem };
    },
    add(part) {
      const decision = takePart(merge, part, units);
      merge = decision.state;
      if ("refused" in decision) return { code: "already-done", message: decision.reason };
      for (const { payload } of decision.add) decodeAdd(codec, payload, total);
      return null;
    },
    addUnchecked: (payload) => decodeAdd(codec, payload, total),
    addAsItComes(part) {
      const decision = takePart(merge, part, units);
      merge = decision.state;
      if ("refused" in decision) return { code: "already-done", message: decision.reason };
      decodeAdd(codec, part.payload, total);
      return null;
    },
    journalStep({ version, tokens, learningRate }) {
      if (!mergeComplete(merge)) throw new Error(`a step on units up to ${merge.next} of ${units}`);
      const gradient = new Float32Array(layout.length);
      roundScaled(gradient, total, 1 / tokens);
      // A step that was called off or not committed leaves its record; the next one is written over it.
      disk.journal = disk.journal.filter((entry) => entry.version < version);
      disk.journal.push({ version, tokens, learningRate, baseHash: hash, gradient });
      total.fill(0);
      merge = startMerge(units);
    },
    step() {
      return take(disk.journal.at(-1)!);
    },
    snapshot() {
      if (state.version !== disk.rounds.length)
        throw new Violation("I4", `a snapshot of version ${state.version}, committed are ${disk.rounds.length}`);
      disk.snapshot = copyState(state);
      disk.journal = disk.journal.filter(({ version }) => version > state.version);
    },
  };
}

function firstState(world: World): State {
  const params = world.initial();
  const { length } = world.layout;
  return { version: 0, params, master: params.slice(), m: new Float32Array(length), v: new Float32Array(length) };
}

function copyState({ version, params, master, m, v }: State): State {
  return { version, params: params.slice(), master: master.slice(), m: m.slice(), v: v.slice() };
}
