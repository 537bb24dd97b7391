/** @file One token per character (Unicode code point), as nanoGPT's character data sets. */

import { idBuffer } from "./idBuffer.ts";
import { END_OF_TEXT, MAX_VOCABULARY, type Tokenizer } from "./tokenizer.ts";
import { utf8Encode } from "./utf8.ts";

export type CharModel = {
  /** Sorted by code point: a character's id is its place here. */
  readonly characters: readonly string[];
  /** Whether the end-of-text token follows them, as the last id. */
  readonly endOfText: boolean;
};

/**
 * The characters that occur. The end-of-text token, which is no character, is added where it is needed.
 *
 * @throws RangeError when there are more than 65,535 of them.
 */
export function collectCharacters(texts: Iterable<string>, options: { endOfText: boolean }): CharModel {
  const seen = new Set<string>();
  let { endOfText } = options;
  for (const text of texts) {
    const parts = text.split(END_OF_TEXT);
    if (parts.length > 1) endOfText = true;
    for (const part of parts) for (const character of part) seen.add(character);
  }
  const characters = Array.from(seen).sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
  const vocabulary = characters.length + (endOfText ? 1 : 0);
  if (vocabulary > MAX_VOCABULARY)
    throw new RangeError(`${vocabulary} different characters; a vocabulary holds at most ${MAX_VOCABULARY}`);
  return { characters, endOfText };
}

export function charTokenizer({ characters, endOfText }: CharModel): Tokenizer {
  const ids = new Map(characters.map((character, id) => [character, id]));
  const bytes = characters.map(utf8Encode);
  if (endOfText) bytes.push(utf8Encode(END_OF_TEXT));
  const endOfTextId = endOfText ? characters.length : undefined;
  return {
    kind: "char",
    vocabulary: bytes.length,
    endOfText: endOfTextId,
    encode(text) {
      const encoded = idBuffer(text.length);
      const parts = endOfTextId === undefined ? [text] : text.split(END_OF_TEXT);
      parts.forEach((part, index) => {
        if (index > 0 && endOfTextId !== undefined) encoded.push(endOfTextId);
        for (const character of part) {
          const id = ids.get(character);
          if (id === undefined) throw new RangeError(`${describe(character)} is not in the tokenizer's vocabulary`);
          encoded.push(id);
        }
      });
      return encoded.toArray();
    },
    bytesOf(id) {
      const spelled = bytes[id];
      if (spelled === undefined) throw new RangeError(`token ${id} is outside the vocabulary of ${bytes.length}`);
      return spelled;
    },
  };
}

function describe(character: string): string {
  const codePoint = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
  return `the character ${JSON.stringify(character)} (U+${codePoint})`;
}
