/**
 * @file Byte-level byte-pair encoding, as GPT-2: any text has a token sequence and comes back from it unchanged.
 * bpeTrainer.ts learns the merges; tokenizerJson.ts stores them.
 */

import { forEachWord } from "./preTokenize.ts";
import { idBuffer } from "./idBuffer.ts";
import { END_OF_TEXT, type Tokenizer } from "./tokenizer.ts";
import { utf8Encode } from "./utf8.ts";

export type Merge = { readonly left: number; readonly right: number; readonly id: number };

export type BpeModel = {
  /** The token of each byte [256]. */
  readonly byteIds: readonly number[];
  /** In order of rank: the first that applies to a word is applied first. */
  readonly merges: readonly Merge[];
  readonly vocabulary: number;
  readonly endOfText: number;
};

/** Words remembered with their tokens. English has some 50,000; more would only hold memory. */
const CACHED_WORDS = 1 << 16;
/** UTF-16 units. Longer words do not repeat. */
const LONGEST_CACHED_WORD = 64;

export function bpeTokenizer(model: BpeModel): Tokenizer {
  const tokens = tokenBytes(model);
  const encodeWord = wordEncoder(model);
  const cache = new Map<string, Uint16Array>();
  return {
    kind: "bpe",
    vocabulary: model.vocabulary,
    endOfText: model.endOfText,
    encode(text) {
      const ids = idBuffer(Math.ceil(text.length / 2) + 16);
      text.split(END_OF_TEXT).forEach((part, index) => {
        if (index > 0) ids.push(model.endOfText);
        forEachWord(part, (word) => {
          let encoded = cache.get(word);
          if (encoded === undefined) {
            encoded = encodeWord(utf8Encode(word));
            if (cache.size < CACHED_WORDS && word.length <= LONGEST_CACHED_WORD) cache.set(word, encoded);
          }
          ids.append(encoded);
        });
      });
      return ids.toArray();
    },
    bytesOf(id) {
      const bytes = tokens[id];
      if (bytes === undefined) throw new RangeError(`token ${id} is outside the vocabulary of ${model.vocabulary}`);
      return bytes;
    },
  };
}

/** The bytes of every token, by id. @throws RangeError when an id has none, or two that differ. */
export function tokenBytes(model: BpeModel): readonly Uint8Array[] {
  const tokens: (Uint8Array | undefined)[] = Array.from({ length: model.vocabulary }, () => undefined);
  const define = (id: number, bytes: Uint8Array): void => {
    const known = tokens[id];
    if (id < 0 || id >= model.vocabulary || (known && !equalBytes(known, bytes)))
      throw new RangeError(`token ${id} is outside the vocabulary of ${model.vocabulary} or defined twice`);
    tokens[id] = bytes;
  };
  model.byteIds.forEach((id, byte) => define(id, Uint8Array.of(byte)));
  for (const { left, right, id } of model.merges) {
    const [first, second] = [tokens[left], tokens[right]];
    if (!first || !second) throw new RangeError(`merge of ${left} and ${right} comes before they are defined`);
    const bytes = new Uint8Array(first.length + second.length);
    bytes.set(first);
    bytes.set(second, first.length);
    define(id, bytes);
  }
  define(model.endOfText, utf8Encode(END_OF_TEXT));
  return tokens.map((bytes, id) => {
    if (!bytes) throw new RangeError(`token ${id} of ${model.vocabulary} is not defined`);
    return bytes;
  });
}

/** A pair of ids as one Map key; ids are below 2^16. */
export const pairKey = (left: number, right: number): number => left * 65536 + right;

/** Repeatedly merges the leftmost pair of lowest rank; a heap, because a "word" may be a megabyte without a space. */
function wordEncoder(model: BpeModel): (bytes: Uint8Array) => Uint16Array {
  const merges = new Map<number, { rank: number; id: number }>();
  model.merges.forEach(({ left, right, id }, rank) => {
    const key = pairKey(left, right);
    if (!merges.has(key)) merges.set(key, { rank, id });
  });
  return (bytes) => {
    const ids = Uint16Array.from(bytes, (byte) => model.byteIds[byte] ?? 0);
    const end = ids.length;
    // A linked list over the byte positions; next[i] = −1 marks a position that was merged into its left neighbour.
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const mergeAt = (i: number): { rank: number; id: number } | undefined => {
      const right = next[i] ?? -1;
      return right < 0 || right >= end ? undefined : merges.get(pairKey(ids[i] ?? 0, ids[right] ?? 0));
    };
    const heap = minHeap();
    const consider = (i: number): void => {
      const merge = mergeAt(i);
      if (merge) heap.push(merge.rank * RANK_UNIT + i);
    };
    for (let i = 0; i < end; i++) consider(i);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const i = top % RANK_UNIT;
      const merge = mergeAt(i);
      // The pair at i has changed since this was pushed; if it can still merge, it was pushed again.
      if (merge?.rank !== Math.floor(top / RANK_UNIT)) continue;
      const right = next[i] ?? end;
      const after = next[right] ?? end;
      ids[i] = merge.id;
      next[i] = after;
      next[right] = -1;
      if (after < end) previous[after] = i;
      consider(i);
      if ((previous[i] ?? -1) >= 0) consider(previous[i] ?? 0);
    }
    let length = 0;
    for (let i = 0; i < end; i = next[i] ?? end) ids[length++] = ids[i] ?? 0;
    return ids.slice(0, length);
  };
}

/** Heap keys are rank · 2^32 + position: below 2^48, exact in a double, ordered by rank and then from the left. */
const RANK_UNIT = 2 ** 32;

/** A binary heap of numbers, the smallest first. */
function minHeap(): { push(value: number): void; pop(): number | undefined } {
  const items: number[] = [];
  return {
    push(value) {
      let i = items.length;
      items.push(value);
      while (i > 0) {
        const parent = (i - 1) >> 1;
        const above = items[parent] ?? 0;
        if (above <= value) break;
        items[i] = above;
        i = parent;
      }
      items[i] = value;
    },
    pop() {
      const top = items[0];
      const last = items.pop();
      if (top === undefined || last === undefined || items.length === 0) return top;
      let i = 0;
      for (let child = 1; child < items.length; child = 2 * i + 1) {
        if (child + 1 < items.length && (items[child + 1] ?? 0) < (items[child] ?? 0)) child++;
        const below = items[child] ?? 0;
        if (below >= last) break;
        items[i] = below;
        i = child;
      }
      items[i] = last;
      return top;
    },
  };
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
