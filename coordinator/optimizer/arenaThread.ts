/**
 * @file One thread of the arena: the chunks [first, last) of every array belong to it, and it carries out the commands
 * that every thread gets, in the order they were posted. The numbers are in shared/; here is only who does which part.
 */

import { parentPort, workerData } from "node:worker_threads";
import { checkSlice, decodeAdd, decodeApply, encode } from "../../shared/codec/codec.ts";
import type { Codec, PayloadProblem } from "../../shared/codec/codec.ts";
import type { AdamWConfig } from "../../shared/numerics/adamw.ts";
import { CHUNK_ELEMENTS, chunkBounds } from "../../shared/numerics/chunks.ts";
import { combineHashes, hashChunk } from "../../shared/numerics/hash.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { clipScale, squaredNormOf } from "../../shared/numerics/norm.ts";
import { subtract } from "../../shared/numerics/sum.ts";
import {
  MAX_GRADIENT_NORM,
  bytesOf,
  gaveUp,
  giveUp,
  meet,
  type ArenaMemory,
  type SharedFloats,
} from "./arenaMemory.ts";
import { createStepKernel } from "./stepKernel.ts";
import { RECORD_HEADER_BYTES, encodeRecordHeader, writeAll } from "../store/journal.ts";

export type ArenaThreadData = {
  readonly layout: ParamLayout;
  readonly codec: Codec;
  readonly optimizer: AdamWConfig & { readonly clipNorm: number };
  readonly memory: ArenaMemory;
  readonly thread: number;
  readonly threads: number;
  /** Chunks [first, last) are this thread's. */
  readonly first: number;
  readonly last: number;
};

export type StepCommand = {
  readonly type: "step";
  /** `total`: g = fround(total·scale). `gradient`: g is in place already (a journal is replayed). */
  readonly source: "total" | "gradient";
  readonly scale: number;
  readonly learningRate: number;
  /** t of AdamW. */
  readonly step: number;
  /** Which of the two published arrays is θ_v; the other becomes θ_{v+1}. */
  readonly current: 0 | 1;
  readonly journal?: {
    readonly fd: number;
    readonly offset: number;
    readonly version: number;
    readonly tokens: number;
    readonly baseHash: string;
  };
};

export type ArenaCommand =
  | { readonly type: "check"; readonly payload: Uint8Array }
  /** `fresh`: the first contribution of a round; what the total held before is forgotten. */
  | { readonly type: "add"; readonly payload: Uint8Array; readonly weight: number; readonly fresh: boolean }
  | StepCommand
  /** Copies θ_pub, θ_master, m and v, and hashes the copies. */
  | {
      readonly type: "copy";
      readonly current: 0 | 1;
      readonly targets: readonly SharedFloats[];
      readonly hashes: readonly Uint32Array[];
    };

export type ArenaReply = {
  readonly problem?: PayloadProblem;
  /** `check`: Σ x̂² of each of the thread's chunks. */
  readonly norms?: Float64Array;
  readonly error?: Error;
};

/** Elements a step takes through all its passes before the next: six arrays of 16 KiB stay in the cache. */
const TILE_ELEMENTS = 4096;

const { layout, codec, optimizer, memory, thread, threads, first, last } = workerData as ArenaThreadData;
const length = layout.length;
const from = first * CHUNK_ELEMENTS;
const to = Math.min(last * CHUNK_ELEMENTS, length);
const difference = new Float32Array(TILE_ELEMENTS);
const kernel = createStepKernel(memory.memories);

parentPort?.on("message", ({ id, command }: { id: number; command: ArenaCommand }) => {
  const onWritten = (): void => parentPort?.postMessage({ id, written: true }, []);
  parentPort?.postMessage({ id, reply: carryOut(command, onWritten) }, []);
});

function carryOut(command: ArenaCommand, onWritten: () => void): ArenaReply {
  switch (command.type) {
    case "check":
      return check(command.payload);
    case "add":
      add(command);
      return {};
    case "step":
      return step(command, onWritten);
    case "copy":
      copy(command);
      return {};
    default:
      throw command satisfies never;
  }
}

function check(payload: Uint8Array): ArenaReply {
  const norms = new Float64Array(last - first);
  for (let chunk = first; chunk < last; chunk++) {
    const bounds = chunkBounds(chunk, length);
    const { squaredNorm, problem } = checkSlice(codec, payload, length, bounds.from, bounds.to);
    if (problem !== undefined) return { problem };
    norms[chunk - first] = squaredNorm;
  }
  return { norms };
}

function add({ payload, weight, fresh }: Extract<ArenaCommand, { type: "add" }>): void {
  for (let tile = from; tile < to; tile += TILE_ELEMENTS) {
    const end = Math.min(tile + TILE_ELEMENTS, to);
    if (fresh) memory.total.fill(0, tile, end);
    decodeAdd(codec, payload, memory.total, weight, tile, end);
  }
}

/**
 * g ← fround(total/tokens), norms, journal; then, when all threads have got that far and the norm is a number: clip,
 * AdamW on θ_master, u ← Q(θ_master − θ_pub), θ_pub' ← θ_pub ⊕ decode(u), hash. docs/numerics.md §2 and §4.
 */
function step(command: StepCommand, onWritten: () => void): ArenaReply {
  const { source, scale, learningRate, step: t, current, journal } = command;
  const { control, norms, gradient } = memory;
  for (let chunk = first; chunk < last; chunk++) {
    const bounds = chunkBounds(chunk, length);
    norms[chunk] =
      source === "total" ? kernel.mean(bounds.from, bounds.to, scale) : squaredNormOf(gradient, bounds.from, bounds.to);
  }
  const written = journal === undefined ? {} : attempt(() => writeGradient(journal));
  meet(control, threads);
  const norm = Math.sqrt(norms.reduce((sum, x) => sum + x, 0));
  if (!(norm <= MAX_GRADIENT_NORM)) return written;
  if (journal !== undefined) {
    const finished = thread === 0 && !gaveUp(control) ? attempt(() => finishRecord(command, journal)) : {};
    meet(control, threads);
    if (gaveUp(control)) return { ...written, ...finished };
    // Thread 0 alone has written the header: from here the file can be synced while AdamW runs.
    if (thread === 0) onWritten();
  }
  publish(learningRate, t, clipScale(norm, optimizer.clipNorm), current);
  return {};
}

function publish(learningRate: number, t: number, gradientScale: number, current: 0 | 1): void {
  const options = { ...optimizer, learningRate, step: t, gradientScale };
  const next = current === 0 ? "published1" : "published0";
  for (let chunk = first; chunk < last; chunk++) {
    const bounds = chunkBounds(chunk, length);
    for (let tile = bounds.from; tile < bounds.to; tile += TILE_ELEMENTS) {
      const end = Math.min(tile + TILE_ELEMENTS, bounds.to);
      kernel.adamw(options, layout, tile, end);
      if (codec === "f32") kernel.publishFloats(current, tile, end);
      else publishBlocks(current, tile, end);
    }
    kernel.hashChunk(next, bounds.from, bounds.to, memory.paramsHashes, 2 * chunk);
  }
}

function publishBlocks(current: 0 | 1, from: number, to: number): void {
  const { master, update, published } = memory;
  const old = published[current];
  const next = published[1 - current] as SharedFloats;
  const values = difference.subarray(0, to - from);
  subtract(values, master, old, from);
  encode(codec, values, update, { at: from, length });
  next.set(old.subarray(from, to), from);
  decodeApply(codec, update, next, from, to);
}

type JournalTarget = NonNullable<StepCommand["journal"]>;

function writeGradient({ fd, offset }: JournalTarget): void {
  const { gradient, gradientHashes } = memory;
  for (let chunk = first; chunk < last; chunk++) {
    const bounds = chunkBounds(chunk, length);
    kernel.hashChunk("gradient", bounds.from, bounds.to, gradientHashes, 2 * chunk);
  }
  writeAll(fd, bytesOf(gradient.subarray(from, to)), offset + RECORD_HEADER_BYTES + 4 * from);
}

/** The header goes last: a record whose header is whole has a whole gradient before it, unless the machine lost power. */
function finishRecord({ learningRate, step: t }: StepCommand, journal: JournalTarget): void {
  const { fd, offset, version, tokens, baseHash } = journal;
  const gradientHash = combineHashes(memory.gradientHashes, length);
  writeAll(fd, encodeRecordHeader({ version, step: t, tokens, learningRate, length, gradientHash, baseHash }), offset);
}

/** A full disk is the operator's to mend: the step is called off by all threads, and can be taken again. */
function attempt(write: () => void): { error?: Error } {
  try {
    write();
    return {};
  } catch (error) {
    giveUp(memory.control);
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
}

function copy({ current, targets, hashes }: Extract<ArenaCommand, { type: "copy" }>): void {
  const sources = [memory.published[current], memory.master, memory.m, memory.v];
  sources.forEach((source, index) => {
    const target = targets[index]!;
    target.set(source.subarray(from, to), from);
    const bits = new Uint32Array(target.buffer);
    for (let chunk = first; chunk < last; chunk++) {
      const bounds = chunkBounds(chunk, length);
      hashChunk(bits, bounds.from, bounds.to, hashes[index]!, 2 * chunk);
    }
  });
}
