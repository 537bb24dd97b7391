/**
 * @file The arena: θ, the optimizer's state and the round's sum as flat arrays in shared memory, and the threads that
 * work on them. The event loop posts a command and gets a promise; the only work it does itself is one copy of each
 * payload in and of each update out.
 *
 * Threads carry commands out in the order in which they were posted, each on its own chunks, so results do not depend on
 * the number of threads.
 */

import { fdatasync } from "node:fs";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { encodedBytes, type Codec, type PayloadProblem } from "../../shared/codec/codec.ts";
import type { AdamWConfig } from "../../shared/numerics/adamw.ts";
import { chunkCount, chunkRuns } from "../../shared/numerics/chunks.ts";
import { combineHashes, hashParams } from "../../shared/numerics/hash.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { allocatePayload } from "../../shared/wire/frame.ts";
import {
  MAX_GRADIENT_NORM,
  bytesOf,
  clearFailure,
  createArenaMemory,
  sharedBytes,
  sharedFloats,
} from "./arenaMemory.ts";
import type { ArenaCommand, ArenaReply, ArenaThreadData, StepCommand } from "./arenaThread.ts";
import { RECORD_HEADER_BYTES, encodeRecordHeader, writeAll, type Journal } from "../store/journal.ts";

export type OptimizerConfig = AdamWConfig & {
  /** Largest norm of the merged gradient; 0 for no clipping. */
  readonly clipNorm: number;
};

/** A contribution that was found to be in order, in memory that the threads see; goes to `add` or `discard`, once. */
export type Staged = { readonly squaredNorm: number; readonly payload: Uint8Array };

export type Checked =
  { readonly ok: true; readonly staged: Staged } | { readonly ok: false; readonly problem: PayloadProblem };

export type ArenaStep =
  | {
      readonly applied: true;
      readonly gradientNorm: number;
      /** With room for a frame's header before it: {@link allocatePayload}. */
      readonly update: Uint8Array<ArrayBuffer>;
      readonly hash: string;
      /** Resolves when the journal's record is on the disk; at once without a journal or without `sync`. */
      readonly synced: Promise<void>;
    }
  /** θ and the optimizer are as before, the sum is gone. */
  | { readonly applied: false; readonly gradientNorm: number };

export type ArenaState = {
  /** θ_pub, θ_master and the moments, [P] f32 each. */
  readonly params: Float32Array;
  readonly master: Float32Array;
  readonly m: Float32Array;
  readonly v: Float32Array;
  /** t: AdamW steps taken. */
  readonly steps: number;
};

export type ArenaHashes = { readonly params: string; readonly master: string; readonly m: string; readonly v: string };

export type Arena = {
  readonly layout: ParamLayout;
  readonly codec: Codec;
  readonly threads: number;
  /** Is the payload in order? Nothing is added yet. The payload may be reused as soon as the call returns. */
  readonly check: (payload: Uint8Array) => Promise<Checked>;
  /** total += weight · x̂. The order of calls is the order of additions, whether or not their promises are awaited. */
  readonly add: (staged: Staged, weight?: number) => Promise<void>;
  /** Gives the memory of a contribution that will not be added back. */
  readonly discard: (staged: Staged) => void;
  /** Forgets the round's sum. */
  readonly clear: () => void;
  /**
   * One optimizer step on the mean gradient total/tokens. With `journal` the gradient is in that file before θ changes;
   * with `sync` it goes to the disk while AdamW runs, and nothing may be published before `synced`.
   *
   * @throws Error of the file system when the journal cannot be written: θ and the sum are as before, step again.
   */
  readonly step: (options: {
    tokens: number;
    learningRate: number;
    journal?: { file: Journal; version: number; sync: boolean };
  }) => Promise<ArenaStep>;
  /**
   * Writes the last step's record once more and syncs it: after a failed sync nobody knows which of its pages are on the
   * disk, and the kernel has forgotten that they should be.
   */
  readonly writeRecordAgain: () => Promise<void>;
  /** The step that a journal recorded: the same numbers, from its gradient [P] instead of the sum. */
  readonly replay: (options: { gradient: Float32Array; learningRate: number }) => Promise<ArenaStep>;
  /** θ_pub as last published: a view that stays whole until the end of the step after the next `step` call begins. */
  readonly params: () => Float32Array;
  /** 64-bit hash of {@link Arena.params}. */
  readonly hash: () => string;
  /** θ_pub with that hash, if it is the newest one or, until the next step begins, the one before; null for any other. */
  readonly paramsOf: (hash: string) => Float32Array | null;
  readonly steps: () => number;
  /** A copy of everything at the last step whose promise has resolved, made by the threads where they are started. */
  readonly state: () => Promise<ArenaState & { readonly hashes: ArenaHashes }>;
  /** Overwrites everything and forgets the round's sum. @throws RangeError when an array is not [P]. */
  readonly restore: (state: ArenaState) => void;
  /** Threads that are running: none before the first command. */
  readonly running: () => number;
  /** Ends the threads; commands under way are rejected. */
  readonly close: () => Promise<void>;
};

/** The state of a run that begins: θ_master = θ_pub = params, no momentum. */
export function initialState(params: Float32Array): ArenaState {
  const zeros = (): Float32Array => new Float32Array(params.length);
  return { params, master: params, m: zeros(), v: zeros(), steps: 0 };
}

/** Staging buffers kept for the next contributions; more are let go to the garbage collector. */
const MAX_FREE_BUFFERS = 8;

type Pending = { readonly resolve: (replies: ArenaReply[]) => void; readonly reject: (error: Error) => void; readonly replies: ArenaReply[]; readonly onWritten: (() => void) | undefined; left: number }; // prettier-ignore

/**
 * The threads (at most one per chunk of 65,536 elements) start with the first command. θ is zero until `restore`.
 * The caller bounds how many contributions are staged at a time.
 */
export function createArena({
  layout,
  codec,
  optimizer,
  threads,
  syncFile = promisify(fdatasync),
}: {
  layout: ParamLayout;
  codec: Codec;
  optimizer: OptimizerConfig;
  threads: number;
  /** Brings a file's data to the disk. */
  syncFile?: ((fd: number) => Promise<void>) | undefined;
}): Arena {
  const { length } = layout;
  const payloadBytes = encodedBytes(codec, length);
  const memory = createArenaMemory(length, codec);
  const runs = chunkRuns(length, threads);
  const pending = new Map<number, Pending>();
  const free: Uint8Array[] = [];
  /** Null until the first command: a coordinator that waits for its first worker does without their 10 MB each. */
  let workers: Worker[] | null = null;
  let broken: Error | null = null;
  let nextId = 0;
  let current: 0 | 1 = 0;
  /** Of the other published array; null when it does not hold a whole θ. */
  let hashBefore: string | null = null;
  let fresh = true;
  let stepping = false;
  let steps = 0;
  let hash = hashParams(memory.published[0]);
  let lastRecord: { target: NonNullable<StepCommand["journal"]>; learningRate: number; step: number } | null = null;

  const startThreads = (): Worker[] =>
    runs.map(({ first, last }, thread) => {
      const data: ArenaThreadData = { layout, codec, optimizer, memory, thread, threads: runs.length, first, last };
      const worker = new Worker(new URL("./arenaThread.ts", import.meta.url), { workerData: data, execArgv: [] });
      worker.on("message", ({ id, reply }: { id: number; reply?: ArenaReply; written?: true }) => {
        const command = pending.get(id);
        if (command === undefined) return;
        if (reply === undefined) {
          command.onWritten?.();
          return;
        }
        command.replies[thread] = reply;
        command.left -= 1;
        if (command.left > 0) return;
        pending.delete(id);
        command.resolve(command.replies);
      });
      worker.on("error", (error) => fail(error instanceof Error ? error : new Error(String(error))));
      worker.on("exit", () => fail(new Error("the arena is closed")));
      return worker;
    });

  /** A thread that died left its chunks half done: nothing that follows could be right. */
  function fail(error: Error): void {
    broken ??= error;
    for (const { reject } of pending.values()) reject(broken);
    pending.clear();
    for (const worker of workers ?? []) void worker.terminate();
  }

  function post(command: ArenaCommand, onWritten?: () => void): Promise<ArenaReply[]> {
    if (broken !== null) return Promise.reject(broken);
    const id = nextId++;
    const posted = (workers ??= startThreads());
    return new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject, replies: [], onWritten, left: posted.length });
      for (const worker of posted) worker.postMessage({ id, command }, []);
    });
  }

  function release(payload: Uint8Array): void {
    if (free.length < MAX_FREE_BUFFERS) free.push(payload);
  }

  async function takeStep(
    command: Pick<StepCommand, "source" | "scale" | "learningRate" | "journal">,
    sync = false,
  ): Promise<ArenaStep> {
    if (stepping) throw new Error("a step is under way");
    if (!Number.isFinite(command.learningRate)) throw new RangeError(`learning rate ${command.learningRate}`);
    stepping = true;
    hashBefore = null;
    clearFailure(memory.control);
    try {
      let synced: Promise<void> = Promise.resolve();
      const replies = await post({ type: "step", ...command, step: steps + 1, current }, () => {
        if (sync && command.journal !== undefined) synced = syncFile(command.journal.fd);
        // Whoever awaits it may come later than the failure.
        synced.catch(() => {});
      });
      const failure = replies.find(({ error }) => error !== undefined)?.error;
      if (failure !== undefined) throw failure;
      const gradientNorm = Math.sqrt(memory.norms.reduce((sum, x) => sum + x, 0));
      fresh = true;
      if (!(gradientNorm <= MAX_GRADIENT_NORM)) return { applied: false, gradientNorm };
      current = current === 0 ? 1 : 0;
      steps += 1;
      hashBefore = hash;
      hash = combineHashes(memory.paramsHashes, length);
      const update = allocatePayload(memory.update.length);
      update.set(memory.update);
      return { applied: true, gradientNorm, update, hash, synced };
    } finally {
      stepping = false;
    }
  }

  return {
    layout,
    codec,
    threads: runs.length,
    async check(payload) {
      if (payload.length !== payloadBytes) return { ok: false, problem: "length" };
      const staged = free.pop() ?? sharedBytes(payloadBytes);
      staged.set(payload);
      const replies = await post({ type: "check", payload: staged });
      const problem = replies.find((reply) => reply.problem !== undefined)?.problem;
      if (problem !== undefined) {
        release(staged);
        return { ok: false, problem };
      }
      // In chunk order, as if one thread had done it.
      const norms = replies.flatMap((reply) => [...(reply.norms ?? [])]);
      return { ok: true, staged: { payload: staged, squaredNorm: norms.reduce((sum, x) => sum + x, 0) } };
    },
    async add({ payload }, weight = 1) {
      const command = { type: "add", payload, weight, fresh } as const;
      fresh = false;
      await post(command);
      release(payload);
    },
    discard: ({ payload }) => release(payload),
    clear() {
      fresh = true;
    },
    step({ tokens, learningRate, journal }) {
      if (!(tokens > 0 && Number.isFinite(tokens))) throw new RangeError(`a step on ${tokens} tokens`);
      if (fresh) throw new Error("a step without a contribution");
      const target = journal && {
        fd: journal.file.fd,
        offset: journal.file.offset,
        version: journal.version,
        tokens,
        baseHash: hash,
      };
      const command = { source: "total", scale: 1 / tokens, learningRate } as const;
      if (target === undefined) return takeStep(command);
      lastRecord = { target, learningRate, step: steps + 1 };
      return takeStep({ ...command, journal: target }, journal?.sync);
    },
    async writeRecordAgain() {
      if (stepping || lastRecord === null) throw new Error("there is no record to write again");
      const { target, learningRate, step } = lastRecord;
      const gradientHash = combineHashes(memory.gradientHashes, length);
      const header = encodeRecordHeader({ ...target, step, learningRate, length, gradientHash });
      // Node's asynchronous writes take no shared memory; this is rare enough to wait for.
      writeAll(target.fd, bytesOf(memory.gradient), target.offset + RECORD_HEADER_BYTES);
      writeAll(target.fd, header, target.offset);
      await syncFile(target.fd);
    },
    replay({ gradient, learningRate }) {
      if (stepping) throw new Error("a step is under way");
      memory.gradient.set(gradient);
      return takeStep({ source: "gradient", scale: 1, learningRate });
    },
    params: () => memory.published[current],
    hash: () => hash,
    paramsOf(wanted) {
      if (wanted === hash) return memory.published[current];
      return wanted === hashBefore ? memory.published[current === 0 ? 1 : 0] : null;
    },
    steps: () => steps,
    async state() {
      if (workers === null) {
        const [params, master, m, v] = [memory.published[current], memory.master, memory.m, memory.v].map((array) => new Float32Array(array)) as [Float32Array, Float32Array, Float32Array, Float32Array]; // prettier-ignore
        const [ofMaster, ofM, ofV] = [hashParams(master), hashParams(m), hashParams(v)];
        return { params, master, m, v, steps, hashes: { params: hash, master: ofMaster, m: ofM, v: ofV } };
      }
      const targets = [sharedFloats(length), sharedFloats(length), sharedFloats(length), sharedFloats(length)] as const;
      const hashes = targets.map(() => new Uint32Array(new SharedArrayBuffer(8 * chunkCount(length))));
      const taken = steps;
      await post({ type: "copy", current, targets, hashes });
      const [params, master, m, v] = targets;
      const [ofParams, ofMaster, ofM, ofV] = hashes.map((words) => combineHashes(words, length)) as [string, string, string, string]; // prettier-ignore
      return { params, master, m, v, steps: taken, hashes: { params: ofParams, master: ofMaster, m: ofM, v: ofV } };
    },
    restore(state) {
      if (stepping) throw new Error("a step is under way");
      for (const array of [state.params, state.master, state.m, state.v]) {
        if (array.length !== length) throw new RangeError(`an array of ${array.length}, the arena has ${length}`);
      }
      memory.published[current].set(state.params);
      memory.master.set(state.master);
      memory.m.set(state.m);
      memory.v.set(state.v);
      steps = state.steps;
      hash = hashParams(memory.published[current]);
      hashBefore = null;
      fresh = true;
    },
    running: () => workers?.length ?? 0,
    async close() {
      broken ??= new Error("the arena is closed");
      await Promise.all((workers ?? []).map((worker) => worker.terminate()));
    },
  };
}
