/** @file The memory that the arena's threads share: one flat array per quantity, and the counters they meet at. */

import { encodedBytes, type Codec } from "../../shared/codec/codec.ts";
import { chunkCount } from "../../shared/numerics/chunks.ts";
import { arrayMemory, type KernelArray, type KernelMemories } from "./stepKernel.ts";

export type SharedFloats = Float32Array<SharedArrayBuffer>;

/** Beyond this g² would leave f32, in which v is stored; such a gradient is as useless as an infinite one. */
export const MAX_GRADIENT_NORM = 1e18;

export type ArenaMemory = {
  /** Σ of the round's contributions, [P] f64; meaningless until the round's first contribution overwrites it. */
  readonly total: Float64Array<SharedArrayBuffer>;
  /** What AdamW was fed last: fround(total/tokens), [P]. */
  readonly gradient: SharedFloats;
  readonly master: SharedFloats;
  readonly m: SharedFloats;
  readonly v: SharedFloats;
  /**
   * θ_pub twice, [P] each: a step reads the current one and writes the other, so that whoever reads the current one
   * (a snapshot for a joining worker) never sees half a step, and a step that fails leaves it as it was.
   */
  readonly published: readonly [SharedFloats, SharedFloats];
  /** The encoded update of the last step. */
  readonly update: Uint8Array<SharedArrayBuffer>;
  /** What the arrays above are views of. */
  readonly memories: KernelMemories;
  /** Σ g² per chunk. */
  readonly norms: Float64Array<SharedArrayBuffer>;
  /** Two words per chunk: of the gradient, and of θ_pub after the step. */
  readonly gradientHashes: Uint32Array<SharedArrayBuffer>;
  readonly paramsHashes: Uint32Array<SharedArrayBuffer>;
  /** See {@link meet}. */
  readonly control: Int32Array<SharedArrayBuffer>;
};

/** @throws RangeError when the sum, 8 bytes a parameter, does not fit into the 4 GiB of a WebAssembly memory. */
export function createArenaMemory(length: number, codec: Codec): ArenaMemory {
  const chunks = chunkCount(length);
  const memories: Partial<Record<KernelArray, WebAssembly.Memory>> = {};
  const place = (array: KernelArray, bytes: number): [SharedArrayBuffer, number] => {
    const { memory, start } = arrayMemory(array, bytes);
    memories[array] = memory;
    return [memory.buffer as SharedArrayBuffer, start];
  };
  const floats = (array: KernelArray): SharedFloats => new Float32Array(...place(array, 4 * length), length);
  return {
    total: new Float64Array(...place("total", 8 * length), length),
    gradient: floats("gradient"),
    master: floats("master"),
    m: floats("m"),
    v: floats("v"),
    published: [floats("published0"), floats("published1")],
    update: new Uint8Array(...place("update", encodedBytes(codec, length)), encodedBytes(codec, length)),
    memories: memories as KernelMemories,
    norms: new Float64Array(new SharedArrayBuffer(8 * chunks)),
    gradientHashes: new Uint32Array(new SharedArrayBuffer(8 * chunks)),
    paramsHashes: new Uint32Array(new SharedArrayBuffer(8 * chunks)),
    control: new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS)),
  };
}

export function sharedFloats(length: number): SharedFloats {
  return new Float32Array(new SharedArrayBuffer(4 * length));
}

export function sharedBytes(length: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(length));
}

/** The bytes of an array, shared. */
export function bytesOf({ buffer, byteOffset, byteLength }: SharedFloats): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

const ARRIVED = 0;
const GENERATION = 1;
const FAILED = 2;
const CONTROL_WORDS = 4;

/** Blocks until all `threads` threads have called it: everything written before is visible to all of them after. */
export function meet(control: Int32Array<SharedArrayBuffer>, threads: number): void {
  const generation = Atomics.load(control, GENERATION);
  if (Atomics.add(control, ARRIVED, 1) === threads - 1) {
    Atomics.store(control, ARRIVED, 0);
    Atomics.add(control, GENERATION, 1);
    Atomics.notify(control, GENERATION);
    return;
  }
  while (Atomics.load(control, GENERATION) === generation) Atomics.wait(control, GENERATION, generation);
}

/** One thread's word to the others, read after the next {@link meet}: this step must not be carried out. */
export function giveUp(control: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(control, FAILED, 1);
}

export function gaveUp(control: Int32Array<SharedArrayBuffer>): boolean {
  return Atomics.load(control, FAILED) === 1;
}

/** Main thread, between steps. */
export function clearFailure(control: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(control, FAILED, 0);
}
