/**
 * @file What there is to compute in the simulator: a corpus of a few hundred tokens, a layout of 279 parameters, and an engine
 * whose gradient is a pure function of (hash of θ, tokens of the unit). Whatever is counted twice, left out, computed on
 * another θ or added in another order changes the bits of θ.
 */
import { createHash } from "node:crypto";
import type { RoundConfig } from "../../../coordinator/round/roundState.ts";
import type { Codec } from "../../../shared/codec/codec.ts";
import { MANIFEST_FILE, MANIFEST_FORMAT } from "../../../shared/data/manifest.ts";
import type { Split } from "../../../shared/data/manifest.ts";
import type { Batch, Engine, Loss } from "../../../shared/engine/engine.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import type { ParamLayout } from "../../../shared/numerics/layout.ts";
import { mix32, randomUint32, streamKey } from "../../../shared/numerics/rng.ts";
import type { Schedule } from "../../../shared/numerics/schedule.ts";
import type { RunDescription } from "../../../shared/wire/protocol.ts";

export type World = {
  readonly config: RoundConfig;
  readonly codec: Codec;
  readonly description: RunDescription;
  readonly schedule: Schedule;
  readonly layout: ParamLayout;
  readonly initial: () => Float32Array;
  /** Served by HTTP: the corpus. */
  readonly files: ReadonlyMap<string, Uint8Array>;
};

const SEED = 20261122;
const WINDOWS = 64;
const VOCABULARY = 256;
/** Small enough that each split has several pieces, each verified by its own hash. */
const PIECE_BYTES = 1024;

export function createWorld(config: RoundConfig, codec: Codec): World {
  const context = config.tokensPerSample;
  const train = shard("train-0.bin", WINDOWS * context + 1, 1);
  const val = shard("val-0.bin", WINDOWS * context + 1, 2);
  const manifest = {
    format: MANIFEST_FORMAT,
    name: "sim",
    tokenizer: { kind: "char", file: "tokenizer.json", vocabulary: VOCABULARY, sha256: "0".repeat(64) },
    pieceBytes: PIECE_BYTES,
    splits: { train: train.split, val: val.split },
  };
  const folder = "/corpus/sim/";
  const description: RunDescription = {
    name: "sim",
    model: { kind: "gpt", layers: 1, heads: 1, width: 1, context, vocabulary: VOCABULARY, bias: false, dropout: 0 },
    seed: SEED,
    sampling: "shuffled",
    batch: config.batch,
    unit: config.unit,
    evaluationUnit: config.evaluationUnit,
    steps: config.steps,
    codec,
    strict: config.strict,
    manifestPath: folder + MANIFEST_FILE,
  };
  const layout = layoutOf(gptTensors(description.model));
  return {
    config,
    codec,
    description,
    schedule: { kind: "cosine", learningRate: 0.01, minLearningRate: 0.001, warmupSteps: 0, totalSteps: config.steps },
    layout,
    initial() {
      const params = new Float32Array(layout.length);
      for (const { offset, size } of layout.slots) {
        for (let i = offset; i < offset + size; i++) params[i] = randomUint32(SEED, i) / 2 ** 32 - 0.5;
      }
      return params;
    },
    files: new Map([
      [folder + MANIFEST_FILE, new TextEncoder().encode(JSON.stringify(manifest))],
      [folder + "train-0.bin", train.bytes],
      [folder + "val-0.bin", val.bytes],
    ]),
  };
}

function shard(file: string, tokens: number, seed: number): { split: Split; bytes: Uint8Array } {
  const bytes = new Uint8Array(
    Uint16Array.from({ length: tokens }, (_, i) => randomUint32(seed, i) % VOCABULARY).buffer,
  );
  const pieces: string[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) pieces.push(sha256(bytes.subarray(at, at + PIECE_BYTES)));
  return {
    split: { tokens, shards: [{ file, tokens, bytes: bytes.length, sha256: sha256(bytes), pieces }] },
    bytes,
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * Overwrites gradient [P] with what this batch gives on the θ of that hash; padding becomes 0. Whole-number losses, so that
 * their sums are exact.
 *
 * Strict runs: now and then ±2^50, which take the low bits of what they are added to with them when they cancel, so that another
 * order of addition gives other bits even in f64. Folded ones: whole numbers, whose sums are exact however a lease was cut.
 */
export function gradientOf({ layout, config }: World, hash: string, batch: Batch, gradient: Float32Array): Loss {
  const key = batchKey(hash, batch);
  gradient.fill(0);
  for (const { offset, size } of layout.slots) {
    for (let i = offset; i < offset + size; i++) {
      const bits = randomUint32(key, i);
      const kind = bits & 7;
      if (!config.strict) gradient[i] = (bits % 201) - 100;
      else gradient[i] = kind === 0 ? 2 ** 50 : kind === 1 ? -(2 ** 50) : bits / 2 ** 32 - 0.5;
    }
  }
  return lossOf(hash, batch);
}

export function lossOf(hash: string, batch: Batch): Loss {
  let tokens = 0;
  for (const target of batch.targets) if (target >= 0) tokens += 1;
  return { lossSum: 1 + (batchKey(hash, batch) % 1000), tokens };
}

/** Padding rows count nothing, so they must not enter. */
function batchKey(hash: string, { inputs, targets }: Batch): number {
  let key = streamKey(Number.parseInt(hash.slice(0, 8), 16), Number.parseInt(hash.slice(8), 16));
  for (let i = 0; i < targets.length; i++) {
    if (targets[i]! >= 0) key = mix32(key ^ mix32((inputs[i]! << 16) | targets[i]!));
  }
  return key;
}

/** An engine that takes no time and is right. */
export function createPureEngine(world: World): Engine {
  let hash = "";
  return {
    backend: "cpu",
    async load(params) {
      hash = hashParams(params);
    },
    gradient: async (batch, gradient) => gradientOf(world, hash, batch, gradient),
    loss: async (batch) => lossOf(hash, batch),
    logits: () => Promise.reject(new Error("nobody generates in the simulator")),
    dispose: () => Promise.resolve(),
  };
}
