/**
 * @file Hugging Face's `tokenizer.json`, the one form in which tokenizers are stored: what is trained here runs elsewhere
 * unchanged, and GPT-2's own file runs here. A character tokenizer is written as a BPE without merges.
 */

import { bpeTokenizer, tokenBytes, type BpeModel, type Merge } from "./bpe.ts";
import { bytesToSymbols, byteSymbols } from "./byteAlphabet.ts";
import { charTokenizer, type CharModel } from "./char.ts";
import { END_OF_TEXT, MAX_VOCABULARY, type Tokenizer } from "./tokenizer.ts";

export function bpeToJson(model: BpeModel): object {
  const symbols = tokenBytes(model).map((bytes, id) => (id === model.endOfText ? END_OF_TEXT : bytesToSymbols(bytes)));
  return {
    ...common(model.endOfText),
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      ...commonModel,
      vocab: vocabularyOf(symbols),
      // No symbol is a space, so one string a merge is unambiguous; every reader knows this form, only newer ones pairs.
      merges: model.merges.map(({ left, right }) => `${symbols[left]} ${symbols[right]}`),
    },
  };
}

export function charToJson({ characters, endOfText }: CharModel): object {
  return {
    ...common(endOfText ? characters.length : undefined),
    pre_tokenizer: null,
    decoder: { type: "Fuse" },
    model: { ...commonModel, vocab: vocabularyOf(endOfText ? [...characters, END_OF_TEXT] : characters), merges: [] },
  };
}

/** @throws Error naming what this implementation does not support: it runs byte-level BPE and characters, nothing else. */
export function readTokenizerJson(json: unknown): Tokenizer {
  const file = record(json, "the file");
  const model = record(file.model, "model");
  expect(model.type, "model.type", ["BPE"]);
  expect(file.normalizer ?? null, "normalizer", [null]);
  for (const key of ["unk_token", "dropout", "continuing_subword_prefix", "end_of_word_suffix"] as const)
    expect(model[key] ?? null, `model.${key}`, [null, ""]);
  const tokens = idsInOrder(record(model.vocab, "model.vocab"), file.added_tokens);
  if (file.pre_tokenizer === null || file.pre_tokenizer === undefined) return charTokenizer(charModel(tokens, model));
  const preTokenizer = record(file.pre_tokenizer, "pre_tokenizer");
  expect(preTokenizer.type, "pre_tokenizer.type", ["ByteLevel"]);
  expect(preTokenizer.add_prefix_space ?? false, "pre_tokenizer.add_prefix_space", [false]);
  expect(preTokenizer.use_regex ?? true, "pre_tokenizer.use_regex", [true]);
  return bpeTokenizer(bpeModel(tokens, model));
}

const commonModel = {
  type: "BPE",
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
} as const;

function common(endOfText: number | undefined): object {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: endOfText === undefined ? [] : [{ id: endOfText, content: END_OF_TEXT, ...flags }],
    normalizer: null,
    post_processor: null,
  };
}

function vocabularyOf(tokens: readonly string[]): Record<string, number> {
  // (fromEntries defines properties, so a token "__proto__" is a token like any other.)
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

function idsInOrder(vocabulary: Record<string, unknown>, addedTokens: unknown): readonly string[] {
  const entries = Object.entries(vocabulary);
  const added: unknown[] = Array.isArray(addedTokens) ? addedTokens : [];
  for (const entry of added) {
    const { id, content } = record(entry, "added_tokens[]");
    expect(content, "added_tokens[].content", [END_OF_TEXT]);
    if (!(END_OF_TEXT in vocabulary)) entries.push([END_OF_TEXT, id]);
  }
  if (entries.length > MAX_VOCABULARY)
    throw new Error(
      `tokenizer.json: model.vocab has ${entries.length} tokens; at most ${MAX_VOCABULARY} are supported`,
    );
  const tokens: (string | undefined)[] = Array.from({ length: entries.length }, () => undefined);
  for (const [token, id] of entries) {
    if (typeof id !== "number" || !(id in tokens) || tokens[id] !== undefined)
      throw new Error(`tokenizer.json: the ids in model.vocab must be 0 … ${entries.length - 1}, each once`);
    tokens[id] = token;
  }
  return tokens.map((token) => token ?? "");
}

function charModel(tokens: readonly string[], model: Record<string, unknown>): CharModel {
  if (!Array.isArray(model.merges) || model.merges.length > 0)
    throw new Error("tokenizer.json: merges without a pre_tokenizer are not supported");
  const endOfText = tokens.at(-1) === END_OF_TEXT;
  const characters = endOfText ? tokens.slice(0, -1) : tokens;
  for (const token of characters)
    if (Array.from(token).length !== 1)
      throw new Error(`tokenizer.json: without merges every token must be one character, not ${JSON.stringify(token)}`);
  return { characters, endOfText };
}

function bpeModel(tokens: readonly string[], model: Record<string, unknown>): BpeModel {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const idOf = (token: string): number => {
    const id = ids.get(token);
    if (id === undefined) throw new Error(`tokenizer.json: model.vocab lacks the token ${JSON.stringify(token)}`);
    return id;
  };
  const merges = Array.isArray(model.merges) ? (model.merges as unknown[]) : [];
  return {
    byteIds: byteSymbols.map(idOf),
    merges: merges.map((entry): Merge => {
      const [left, right, ...rest] = typeof entry === "string" ? entry.split(" ") : (entry as unknown[]);
      if (typeof left !== "string" || typeof right !== "string" || rest.length > 0)
        throw new Error(`tokenizer.json: a merge must be two tokens, not ${JSON.stringify(entry)}`);
      return { left: idOf(left), right: idOf(right), id: idOf(left + right) };
    }),
    vocabulary: tokens.length,
    endOfText: idOf(END_OF_TEXT),
  };
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`tokenizer.json: ${name} must be an object`);
  return value as Record<string, unknown>;
}

function expect(value: unknown, name: string, supported: readonly unknown[]): void {
  if (!supported.includes(value))
    throw new Error(`tokenizer.json: ${name} is ${JSON.stringify(value)}; supported: ${JSON.stringify(supported[0])}`);
}
