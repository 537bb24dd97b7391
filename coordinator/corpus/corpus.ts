/**
 * @file Prepares a corpus: documents → tokenizer → uint16 shards and a manifest, in a folder named by what went in, so
 * that the same texts are prepared once. A folder appears under its name complete or not at all.
 */

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { writeBin, type BinFormat } from "../../shared/data/bin.ts";
import {
  MANIFEST_FILE,
  MANIFEST_FORMAT,
  parseManifest,
  type Manifest,
  type Shard,
  type Split,
} from "../../shared/data/manifest.ts";
import { bytesToTokens, tokensToBytes } from "../../shared/data/tokenSource.ts";
import { fileProblem, OperatorError } from "../../shared/operatorError.ts";
import type { Tokenizer } from "../../shared/tokenizer/tokenizer.ts";
import { readTokenizerJson } from "../../shared/tokenizer/tokenizerJson.ts";
import { parseTokenizerChoice, readCorpusInput, type CorpusInput, type CorpusSource } from "./corpusSource.ts";
import { encodeCorpus, type OnCorpusProgress } from "./encodeCorpus.ts";

export type Corpus = { readonly dir: string; readonly manifest: Manifest };

/** Raised when the same input is prepared differently than before; a part of the folder's name. */
const PREPARATION = 1;

const TOKENIZER_FILE = "tokenizer.json";

/** 32 MiB a file: few files, and none that a volunteer's browser would not want to see in a cache. */
const SHARD_TOKENS = 16 * 2 ** 20;

/** Bytes a worker fetches and verifies at a time. */
const PIECE_BYTES = 256 * 2 ** 10;

/**
 * The corpus of these texts and this tokenizer in a folder below `dataDir`: prepared now, or found there.
 *
 * @param minimumTokens refuses, before anything is written, texts with fewer tokens than this in either split.
 * @throws OperatorError for what is wrong with the texts, the tokenizer or the folder.
 */
export async function prepareCorpus({
  texts,
  tokenizer,
  dataDir,
  minimumTokens = 2,
  onProgress = () => {},
}: {
  readonly texts: readonly string[] | undefined;
  readonly tokenizer: string;
  readonly dataDir: string;
  readonly minimumTokens?: number;
  readonly onProgress?: OnCorpusProgress;
}): Promise<Corpus> {
  onProgress({ stage: "reading", fraction: 0 });
  const input = await readCorpusInput({ texts }, tokenizer);
  const dir = join(dataDir, `${input.key}-v${MANIFEST_FORMAT}.${PREPARATION}`);
  const found = await findCorpus(dir);
  if (found) {
    requireTokens(input, found.splits.train.tokens, found.splits.val.tokens, minimumTokens);
    onProgress({ stage: "ready", fraction: 1 });
    return { dir, manifest: found };
  }
  const setting = `--data-dir ${dataDir}`;
  const manifest = await writeCorpus(input, { dir, setting, ours: true, minimumTokens, onProgress });
  return { dir, manifest };
}

/** As {@link prepareCorpus}, into a folder of the caller's choice that must be new or empty. */
export async function prepareCorpusIn({
  source,
  tokenizer,
  dir,
  onProgress = () => {},
}: {
  readonly source: CorpusSource;
  readonly tokenizer: string;
  readonly dir: string;
  readonly onProgress?: OnCorpusProgress;
}): Promise<Corpus> {
  const present = await readdir(dir).catch((error: unknown) => {
    if (fileProblem(error) === "no such file or folder") return [];
    throw new OperatorError(`--out ${dir}: ${fileProblem(error) ?? String(error)}; must be a new or an empty folder`);
  });
  if (present.length > 0) throw new OperatorError(`--out ${dir}: is not empty; must be a new or an empty folder`);
  onProgress({ stage: "reading", fraction: 0 });
  const input = await readCorpusInput(source, tokenizer);
  const setting = `--out ${dir}`;
  const manifest = await writeCorpus(input, { dir, setting, ours: false, minimumTokens: 2, onProgress });
  return { dir, manifest };
}

/** A corpus that was prepared earlier. @throws OperatorError when the folder holds none, or not all of it. */
export async function loadCorpus(dir: string): Promise<Corpus> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(join(dir, MANIFEST_FILE), "utf8"));
  } catch (error) {
    const problem = fileProblem(error) ?? "is not JSON";
    throw new OperatorError(`${join(dir, MANIFEST_FILE)}: ${problem}; must be a folder made by prepare-data`);
  }
  let manifest: Manifest;
  try {
    manifest = parseManifest(json);
  } catch (error) {
    throw new OperatorError(`${join(dir, MANIFEST_FILE)}: ${(error as Error).message}`);
  }
  for (const { file, bytes } of [...manifest.splits.train.shards, ...manifest.splits.val.shards]) {
    const found = await stat(join(dir, file)).catch(() => undefined);
    if (found?.size !== bytes)
      throw new OperatorError(`${join(dir, file)}: has ${found?.size ?? "no"} bytes; the manifest says ${bytes}`);
  }
  return { dir, manifest };
}

/** What a person should know of a tokenizer that was asked for and became smaller; undefined when it did not. */
export function smallerVocabulary({ tokenizer }: Manifest, asked: string): string | undefined {
  const choice = parseTokenizerChoice(asked);
  if (choice?.kind !== "bpe" || choice.vocabulary <= tokenizer.vocabulary) return undefined;
  return `the text is too short for ${asked}: its vocabulary is ${tokenizer.vocabulary}`;
}

/** The tokenizer in a `tokenizer.json` of ours. */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  return readTokenizerJson(JSON.parse(await readFile(path, "utf8")));
}

/** The tokenizer of a prepared corpus. */
export function loadTokenizer({ dir, manifest }: Corpus): Promise<Tokenizer> {
  return readTokenizer(join(dir, manifest.tokenizer.file));
}

/** Writes `train.bin` and `val.bin` beside the shards. @throws OperatorError when the folder cannot take them. */
export async function writeBinFiles({ dir, manifest }: Corpus, format: BinFormat): Promise<readonly string[]> {
  const written: string[] = [];
  for (const [name, split] of Object.entries(manifest.splits)) {
    const shards = await Promise.all(split.shards.map((shard) => readFile(join(dir, shard.file))));
    const path = join(dir, `${name}.bin`);
    await writeFile(path, writeBin(bytesToTokens(Buffer.concat(shards)), format)).catch((error: unknown) => {
      throw new OperatorError(`--write-bin ${format}: ${path}: ${fileProblem(error) ?? String(error)}`);
    });
    written.push(path);
  }
  return written;
}

async function findCorpus(dir: string): Promise<Manifest | undefined> {
  try {
    return (await loadCorpus(dir)).manifest;
  } catch (error) {
    if (error instanceof OperatorError) return undefined;
    throw error;
  }
}

type WriteOptions = {
  readonly dir: string;
  /** What the operator wrote to name the folder, for messages. */
  readonly setting: string;
  /** Whether the folder's name is of our making: then one that is in the way may be used, or replaced. */
  readonly ours: boolean;
  readonly minimumTokens: number;
  readonly onProgress: OnCorpusProgress;
};

async function writeCorpus(input: CorpusInput, options: WriteOptions): Promise<Manifest> {
  const { dir, setting, ours, minimumTokens, onProgress } = options;
  const { tokenizer, json, splits } = encodeCorpus(input, onProgress);
  requireTokens(input, splits.train.length, splits.val.length, minimumTokens);
  const partial = join(dirname(dir), `.partial-${process.pid}-${basename(dir)}`);
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    const tokenizerText = `${JSON.stringify(json)}\n`;
    const manifest: Manifest = {
      format: MANIFEST_FORMAT,
      name: input.name,
      tokenizer: {
        kind: tokenizer.kind,
        file: TOKENIZER_FILE,
        vocabulary: tokenizer.vocabulary,
        sha256: sha256(tokenizerText),
      },
      pieceBytes: PIECE_BYTES,
      splits: {
        train: await writeShards(partial, "train", splits.train),
        val: await writeShards(partial, "val", splits.val),
      },
    };
    await writeFile(join(partial, TOKENIZER_FILE), tokenizerText);
    await writeFile(join(partial, MANIFEST_FILE), `${JSON.stringify(manifest, undefined, 1)}\n`);
    if (ours && (await findCorpus(dir))) {
      // Another process was faster with the same corpus.
      await rm(partial, { recursive: true });
    } else {
      // A folder of this name that is not whole was damaged; the name is ours, so it may go.
      if (ours) await rm(dir, { recursive: true, force: true });
      await rename(partial, dir);
    }
    onProgress({ stage: "ready", fraction: 1 });
    return manifest;
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    const problem = fileProblem(error);
    if (problem === undefined) throw error;
    throw new OperatorError(`${setting}: ${problem}; must be a folder that can be written to`);
  }
}

async function writeShards(dir: string, name: "train" | "val", tokens: Uint16Array): Promise<Split> {
  const shards: Shard[] = [];
  for (let start = 0; start < tokens.length; start += SHARD_TOKENS) {
    const file = `${name}-${String(shards.length).padStart(5, "0")}.bin`;
    const part = tokens.subarray(start, start + SHARD_TOKENS);
    await writeFile(join(dir, file), tokensToBytes(part));
    shards.push(describeShard(file, part));
  }
  return { tokens: tokens.length, shards };
}

function describeShard(file: string, tokens: Uint16Array): Shard {
  const bytes = tokensToBytes(tokens);
  const pieces = Array.from({ length: Math.ceil(bytes.length / PIECE_BYTES) }, (_, piece) =>
    sha256(bytes.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES)),
  );
  return { file, tokens: tokens.length, bytes: bytes.length, sha256: sha256(bytes), pieces };
}

function sha256(part: Uint8Array | string): string {
  return createHash("sha256").update(part).digest("hex");
}

function requireTokens({ setting }: CorpusInput, train: number, val: number, minimum: number): void {
  if (train >= minimum && val >= minimum) return;
  throw new OperatorError(
    `${setting}: too short, ${train} tokens to train on and ${val} to validate on; must be at least ${minimum} of each (the model's context + 1)`,
  );
}
