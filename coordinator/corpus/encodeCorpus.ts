/** @file Text to tokens: which part is held out for validation, the tokenizer, and the two streams of ids. */

import { OperatorError } from "../../shared/operatorError.ts";
import { bpeTokenizer } from "../../shared/tokenizer/bpe.ts";
import { trainBpe } from "../../shared/tokenizer/bpeTrainer.ts";
import { charTokenizer, collectCharacters } from "../../shared/tokenizer/char.ts";
import type { Tokenizer } from "../../shared/tokenizer/tokenizer.ts";
import { bpeToJson, charToJson, readTokenizerJson } from "../../shared/tokenizer/tokenizerJson.ts";
import { TOKENIZER_CHOICES, TRAIN_FRACTION, type CorpusInput } from "./corpusSource.ts";

export type CorpusStage = "reading" | "learning the tokenizer" | "encoding" | "ready";
export type OnCorpusProgress = (progress: { readonly stage: CorpusStage; readonly fraction: number }) => void;

/** From so many documents on, whole documents are held out instead of the text's last tenth. */
const DOCUMENTS_TO_HOLD_OUT = 10;

export type EncodedCorpus = {
  readonly tokenizer: Tokenizer;
  /** For `tokenizer.json`. */
  readonly json: unknown;
  readonly splits: { readonly train: Uint16Array; readonly val: Uint16Array };
};

/** @throws OperatorError when the tokenizer does not fit the text. */
export function encodeCorpus(input: CorpusInput, onProgress: OnCorpusProgress): EncodedCorpus {
  const { content } = input;
  if (content.kind === "tokens") {
    const { tokenizer, json } = readTokenizerFile(input);
    for (const tokens of [content.train, content.val])
      for (const id of tokens)
        if (id >= tokenizer.vocabulary)
          throw new OperatorError(`${input.setting}: token ${id}; the tokenizer has ids up to ${tokenizer.vocabulary - 1}`); // prettier-ignore
    return { tokenizer, json, splits: content };
  }
  const several = content.documents.length > 1;
  const texts = content.documents.map((bytes) => bytes.toString("utf8").replace(/^\uFEFF/, ""));
  const split = splitTexts(texts);
  onProgress({ stage: "learning the tokenizer", fraction: 0 });
  const { tokenizer, json } = makeTokenizer(input, split, several);

  const total = texts.reduce((sum, text) => sum + text.length, 0);
  let done = 0;
  const encodeAll = (parts: readonly string[]): Uint16Array => {
    const encoded = parts.map((text) => {
      onProgress({ stage: "encoding", fraction: done / total });
      done += text.length;
      return tokenizer.encode(text);
    });
    // Each document starts with the end-of-text token, so a model can be asked to start one; a single text has no borders.
    const separator = several && tokenizer.endOfText !== undefined ? [tokenizer.endOfText] : [];
    const length = encoded.reduce((sum, ids) => sum + separator.length + ids.length, 0);
    const tokens = new Uint16Array(length);
    let offset = 0;
    for (const ids of encoded) {
      tokens.set(separator, offset);
      tokens.set(ids, offset + separator.length);
      offset += separator.length + ids.length;
    }
    return tokens;
  };
  try {
    return { tokenizer, json, splits: { train: encodeAll(split.train), val: encodeAll(split.val) } };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new OperatorError(`${input.setting}: ${error.message}`);
  }
}

function makeTokenizer(
  input: CorpusInput,
  split: TextSplit,
  several: boolean,
): { tokenizer: Tokenizer; json: unknown } {
  const choice = input.tokenizer;
  switch (choice.kind) {
    case "char": {
      try {
        const model = collectCharacters([...split.train, ...split.val], { endOfText: several });
        return { tokenizer: charTokenizer(model), json: charToJson(model) };
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw new OperatorError(`--tokenizer char: ${error.message}; use bpe:N`);
      }
    }
    case "bpe": {
      // From the training texts only: what is held out stays unseen.
      const model = trainBpe(split.train, choice.vocabulary);
      return { tokenizer: bpeTokenizer(model), json: bpeToJson(model) };
    }
    case "file":
      return readTokenizerFile(input);
    default:
      return choice satisfies never;
  }
}

function readTokenizerFile({ tokenizer, tokenizerJson }: CorpusInput): { tokenizer: Tokenizer; json: unknown } {
  const path = tokenizer.kind === "file" ? tokenizer.path : "";
  try {
    const json: unknown = JSON.parse(tokenizerJson ?? "");
    return { tokenizer: readTokenizerJson(json), json };
  } catch (error) {
    throw new OperatorError(`--tokenizer ${path}: ${(error as Error).message}; must be ${TOKENIZER_CHOICES}`);
  }
}

export type TextSplit = { readonly train: readonly string[]; readonly val: readonly string[] };

/**
 * Ten documents or more: every tenth is validation, so that both splits have the same mixture (of years, of authors),
 * if that is 5 to 20 % of the characters. Otherwise the last tenth of the characters, as nanoGPT.
 */
export function splitTexts(texts: readonly string[]): TextSplit {
  const lengths = texts.map(countCharacters);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (texts.length >= DOCUMENTS_TO_HOLD_OUT) {
    const heldOut = (index: number): boolean => index % DOCUMENTS_TO_HOLD_OUT === DOCUMENTS_TO_HOLD_OUT - 1;
    const held = lengths.reduce((sum, length, index) => sum + (heldOut(index) ? length : 0), 0);
    if (held >= 0.05 * total && held <= 0.2 * total)
      return { train: texts.filter((_, i) => !heldOut(i)), val: texts.filter((_, i) => heldOut(i)) };
  }
  let left = Math.floor(total * TRAIN_FRACTION);
  const split: { train: string[]; val: string[] } = { train: [], val: [] };
  texts.forEach((text, index) => {
    const length = lengths[index] ?? 0;
    const cut = characterOffset(text, Math.min(left, length));
    if (cut > 0) split.train.push(text.slice(0, cut));
    if (cut < text.length) split.val.push(text.slice(cut));
    left -= Math.min(left, length);
  });
  return split;
}

/** Code points: a pair of surrogates is one character. */
function countCharacters(text: string): number {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) if (isHighSurrogate(text.charCodeAt(i))) pairs++;
  return text.length - pairs;
}

/** Where in the string the first `characters` characters end. */
function characterOffset(text: string, characters: number): number {
  let offset = 0;
  for (let i = 0; i < characters; i++) offset += isHighSurrogate(text.charCodeAt(offset)) ? 2 : 1;
  return offset;
}

/** (Text decoded from UTF-8 has surrogates in pairs only.) */
function isHighSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}
