/**
 * @file Learns byte-pair merges: again and again, the pair that is adjacent most often becomes a token. Counts are kept
 * up to date as words change, so a merge costs the words it touches, not the corpus. Source: Sennrich et al. 1508.07909.
 */

import { pairKey, type BpeModel, type Merge } from "./bpe.ts";
import { forEachWord } from "./preTokenize.ts";
import { END_OF_TEXT, MAX_VOCABULARY } from "./tokenizer.ts";
import { utf8Encode } from "./utf8.ts";

/** 256 bytes and the end-of-text token. */
export const SMALLEST_BPE_VOCABULARY = 257;

/**
 * Ids: bytes 0–255, merges in the order learned, end-of-text last. Of pairs equally frequent the one with the smaller
 * left id, then right id, is merged: the result depends on the texts' words alone. Stops early, with a smaller
 * vocabulary, when no pair occurs twice.
 *
 * @throws RangeError when the vocabulary is not in 257 … 65,535.
 */
export function trainBpe(texts: Iterable<string>, vocabulary: number): BpeModel {
  if (!Number.isInteger(vocabulary) || vocabulary < SMALLEST_BPE_VOCABULARY || vocabulary > MAX_VOCABULARY)
    throw new RangeError(`a BPE vocabulary is ${SMALLEST_BPE_VOCABULARY} to ${MAX_VOCABULARY}, not ${vocabulary}`);
  const corpus = splitIntoWords(texts);
  const pairs = pairIndex(corpus);
  const merges: Merge[] = [];
  /** By bytes: two different pairs may spell the same token, which then keeps its first id. */
  const idOf = new Map<string, number>();
  const spelling = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
  while (spelling.length < vocabulary - 1) {
    const best = pairs.mostFrequent();
    if (best === undefined) break;
    const [left, right] = [Math.floor(best / 65536), best % 65536];
    const spelled = `${spelling[left]}${spelling[right]}`;
    let id = idOf.get(spelled);
    if (id === undefined) {
      id = spelling.length;
      spelling.push(spelled);
      idOf.set(spelled, id);
    }
    merges.push({ left, right, id });
    pairs.merge(left, right, id);
  }
  return {
    byteIds: Array.from({ length: 256 }, (_, byte) => byte),
    merges,
    vocabulary: spelling.length + 1,
    endOfText: spelling.length,
  };
}

/** The distinct words, their tokens one after another in `ids`; word w occupies ids[start[w] … start[w] + length[w]). */
type WordTable = {
  readonly ids: Uint16Array;
  readonly start: Int32Array;
  readonly length: Int32Array;
  readonly count: Float64Array;
};

function splitIntoWords(texts: Iterable<string>): WordTable {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const part of text.split(END_OF_TEXT))
      forEachWord(part, (word) => counts.set(word, (counts.get(word) ?? 0) + 1));
  const words = Array.from(counts.keys(), utf8Encode);
  const total = words.reduce((sum, word) => sum + word.length, 0);
  const table: WordTable = {
    ids: new Uint16Array(total),
    start: new Int32Array(words.length),
    length: Int32Array.from(words, (word) => word.length),
    count: Float64Array.from(counts.values()),
  };
  let offset = 0;
  words.forEach((word, w) => {
    table.ids.set(word, offset);
    table.start[w] = offset;
    offset += word.length;
  });
  return table;
}

type PairIndex = {
  /** Key of the pair with the highest count, at least 2; ties to the smallest key. */
  mostFrequent(): number | undefined;
  /** Replaces every occurrence of the pair by `id`, from the left. */
  merge(left: number, right: number, id: number): void;
};

function pairIndex({ ids, start, length, count }: WordTable): PairIndex {
  const counts = new Map<number, number>();
  /** Words that hold the pair, or did; a word may be listed twice. */
  const wordsOf = new Map<number, number[]>();
  const add = (key: number, amount: number, word: number): void => {
    counts.set(key, (counts.get(key) ?? 0) + amount);
    const words = wordsOf.get(key);
    if (words === undefined) wordsOf.set(key, [word]);
    else if (words[words.length - 1] !== word) words.push(word);
  };
  for (let w = 0; w < start.length; w++) {
    const first = start[w] ?? 0;
    const last = first + (length[w] ?? 0) - 1;
    for (let i = first; i < last; i++) add(pairKey(ids[i] ?? 0, ids[i + 1] ?? 0), count[w] ?? 0, w);
  }

  /** visited[w] is the last merge that rewrote word w. */
  const visited = new Int32Array(start.length);
  let round = 0;

  const heap = pairHeap();
  for (const [key, amount] of counts) heap.push(key, amount);

  return {
    mostFrequent() {
      for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
        const current = counts.get(top.key) ?? 0;
        if (current === top.count) return current >= 2 ? top.key : undefined;
        // Counts of queued pairs only fall (a pair that rises holds the newest token and is pushed below): put it back.
        if (current > 0) heap.push(top.key, current);
      }
      return undefined;
    },
    merge(left, right, id) {
      const merged = pairKey(left, right);
      const risen = new Set<number>();
      round++;
      for (const w of wordsOf.get(merged) ?? []) {
        if (visited[w] === round) continue;
        visited[w] = round;
        const weight = count[w] ?? 0;
        const first = start[w] ?? 0;
        const end = first + (length[w] ?? 0);
        let write = first;
        for (let read = first; read < end; write++) {
          if (read + 1 >= end || ids[read] !== left || ids[read + 1] !== right) {
            ids[write] = ids[read++] ?? 0;
            continue;
          }
          if (write > first) {
            const before = ids[write - 1] ?? 0;
            const lost = pairKey(before, left);
            counts.set(lost, (counts.get(lost) ?? 0) - weight);
            const gained = pairKey(before, id);
            add(gained, weight, w);
            risen.add(gained);
          }
          if (read + 2 < end) {
            const after = ids[read + 2] ?? 0;
            const lost = pairKey(right, after);
            counts.set(lost, (counts.get(lost) ?? 0) - weight);
            const gained = pairKey(id, after);
            add(gained, weight, w);
            risen.add(gained);
          }
          ids[write] = id;
          read += 2;
        }
        length[w] = write - first;
      }
      counts.delete(merged);
      wordsOf.delete(merged);
      for (const key of risen) {
        const amount = counts.get(key) ?? 0;
        if (amount > 0) heap.push(key, amount);
      }
    },
  };
}

type CountedPair = { readonly key: number; readonly count: number };

/** A binary heap: highest count first, ties to the smallest key. */
function pairHeap(): { push(key: number, count: number): void; pop(): CountedPair | undefined } {
  const items: CountedPair[] = [];
  const before = (a: CountedPair, b: CountedPair): boolean =>
    a.count > b.count || (a.count === b.count && a.key < b.key);
  return {
    push(key, count) {
      const item = { key, count };
      let i = items.length;
      items.push(item);
      while (i > 0) {
        const parent = (i - 1) >> 1;
        const above = items[parent];
        if (above === undefined || !before(item, above)) break;
        items[i] = above;
        i = parent;
      }
      items[i] = item;
    },
    pop() {
      const top = items[0];
      const last = items.pop();
      if (top === undefined || last === undefined || items.length === 0) return top;
      let i = 0;
      for (let child = 1; child < items.length; child = 2 * i + 1) {
        const [one, two] = [items[child], items[child + 1]];
        let below = one;
        if (one !== undefined && two !== undefined && before(two, one)) {
          below = two;
          child++;
        }
        if (below === undefined || !before(below, last)) break;
        items[i] = below;
        i = child;
      }
      items[i] = last;
      return top;
    },
  };
}
