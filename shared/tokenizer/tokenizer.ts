/** @file What a tokenizer does, whichever kind it is: text to ids, ids to bytes, bytes to text as they arrive. */

import { utf8Decoder } from "./utf8.ts";

export type TokenizerKind = "char" | "bpe";

/** Separates documents: each one starts with it, so a model can be asked to start one. */
export const END_OF_TEXT = "<|endoftext|>";

/** Token ids are stored as uint16. */
export const MAX_VOCABULARY = 65_535;

export type Tokenizer = {
  readonly kind: TokenizerKind;
  /** Ids are 0 … vocabulary − 1. */
  readonly vocabulary: number;
  /** The id of {@link END_OF_TEXT}; a character tokenizer of a single document has none. */
  readonly endOfText: number | undefined;
  /** Every occurrence of {@link END_OF_TEXT} in the text becomes its id. @throws RangeError on a character it does not know. */
  encode(text: string): Uint16Array;
  /** The token's UTF-8 bytes, possibly a part of a character. @throws RangeError on an id outside the vocabulary. */
  bytesOf(id: number): Uint8Array;
};

export function decode(tokenizer: Tokenizer, ids: Iterable<number>): string {
  const stream = textStream(tokenizer);
  let text = "";
  for (const id of ids) text += stream.push(id);
  return text + stream.end();
}

export type TextStream = {
  /** The text that this token completes: empty while a character is still missing bytes. */
  push(id: number): string;
  /** What is left: U+FFFD where a character stayed incomplete. */
  end(): string;
};

export function textStream(tokenizer: Tokenizer): TextStream {
  const decoder = utf8Decoder();
  return {
    push: (id) => decoder.decode(tokenizer.bytesOf(id), { stream: true }),
    end: () => decoder.decode(),
  };
}
