import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { trainBpe } from "../../../shared/tokenizer/bpeTrainer.ts";
import { bpeTokenizer, type BpeModel, type Merge } from "../../../shared/tokenizer/bpe.ts";
import { charTokenizer, collectCharacters } from "../../../shared/tokenizer/char.ts";
import { forEachWord } from "../../../shared/tokenizer/preTokenize.ts";
import { decode, END_OF_TEXT } from "../../../shared/tokenizer/tokenizer.ts";
import { bpeToJson, charToJson, readTokenizerJson } from "../../../shared/tokenizer/tokenizerJson.ts";

const words = ["the", "then", " they're", "don't", "  ", "\n", "\t", " 1790", "naïve", "Zürich", "日本語", "🙂", "😀🏽", "'s", END_OF_TEXT, "\u00a0", "\ufeff", "a̐éö̲", "…", "<|", "ab", "aaaa"]; // prettier-ignore

/** Text that has what English has, what tokenizers trip over, and arbitrary Unicode. */
const anyText = fc
  .array(fc.oneof(fc.constantFrom(...words), fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" })), {
    maxLength: 30,
  })
  .map((parts) => parts.join(""));

const corpus = Array.from({ length: 40 }, (_, i) => words.concat(words.slice(i % 7)).join(i % 2 ? " " : "")).join(" ");
const stored = (json: object): object => JSON.parse(JSON.stringify(json)) as object;

test("what BPE encodes comes back unchanged, whatever the text", () => {
  const tokenizer = bpeTokenizer(trainBpe([corpus], 400));
  fc.assert(
    fc.property(anyText, (text) => decode(tokenizer, tokenizer.encode(text)) === text),
    { numRuns: 500 },
  );
});

test("@huggingface/tokenizers runs our BPE tokenizer.json to the same ids and text", () => {
  const model = trainBpe([corpus], 400);
  const json = stored(bpeToJson(model));
  const theirs = new HuggingFaceTokenizer(json, {});
  const ours = [bpeTokenizer(model), readTokenizerJson(json)];
  fc.assert(
    fc.property(anyText, (text) => {
      const ids = theirs.encode(text).ids;
      for (const tokenizer of ours) expect(Array.from(tokenizer.encode(text))).toEqual(ids);
      if (ids.length > 0) expect(theirs.decode(ids, { clean_up_tokenization_spaces: false })).toBe(text);
    }),
    { numRuns: 500 },
  );
});

test("@huggingface/tokenizers runs our character tokenizer.json to the same ids and text", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      fc.pre(text.length > 0);
      const model = collectCharacters([text], { endOfText: false });
      const json = stored(charToJson(model));
      const theirs = new HuggingFaceTokenizer(json, {});
      const ids = Array.from(charTokenizer(model).encode(text));
      expect(theirs.encode(text).ids).toEqual(ids);
      expect(theirs.decode(ids, { clean_up_tokenization_spaces: false })).toBe(text);
      const read = readTokenizerJson(json);
      expect(Array.from(read.encode(text))).toEqual(ids);
      expect(decode(read, ids)).toBe(text);
    }),
  );
});

test("the trainer's incremental counts choose the merges that counting afresh chooses", () => {
  const text = fc
    .array(fc.string({ unit: fc.constantFrom("a", "b", "c", " "), maxLength: 12 }), { minLength: 1, maxLength: 12 })
    .map((parts) => parts.join(" "));
  fc.assert(
    fc.property(text, (sample) => {
      expect(trainBpe([sample], 257 + 12).merges).toEqual(mergesByRecounting(sample, 257 + 12));
    }),
    { numRuns: 500 },
  );
});

test("cutting a text into sections does not change its words", () => {
  fc.assert(
    fc.property(anyText, fc.integer({ min: 1, max: 40 }), (text, length) => {
      const [whole, cut]: [string[], string[]] = [[], []];
      forEachWord(text, (word) => whole.push(word));
      forEachWord(text, (word) => cut.push(word), length);
      expect(cut).toEqual(whole);
      expect(whole.join("")).toBe(text);
    }),
    { numRuns: 500 },
  );
});

/** Training by definition: count every pair, merge the first most frequent one everywhere, begin again. */
function mergesByRecounting(text: string, vocabulary: number): readonly Merge[] {
  let sequences: number[][] = [];
  forEachWord(text, (word) => sequences.push([...Buffer.from(word)]));
  const spelling = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
  const merges: BpeModel["merges"][number][] = [];
  while (spelling.length < vocabulary - 1) {
    const counts = new Map<string, number>();
    for (const ids of sequences)
      for (let i = 1; i < ids.length; i++) {
        const pair = `${ids[i - 1]} ${ids[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    const [best] = [...counts]
      .filter(([, count]) => count >= 2)
      .map(([pair, count]) => ({ left: Number(pair.split(" ")[0]), right: Number(pair.split(" ")[1]), count }))
      .sort((a, b) => b.count - a.count || a.left - b.left || a.right - b.right);
    if (!best) break;
    const { left, right } = best;
    const spelled = `${spelling[left]}${spelling[right]}`;
    const known = spelling.indexOf(spelled);
    const id = known >= 0 ? known : spelling.push(spelled) - 1;
    merges.push({ left, right, id });
    sequences = sequences.map((ids) => {
      const merged: number[] = [];
      for (let i = 0; i < ids.length; i++)
        if (ids[i] === left && ids[i + 1] === right) {
          merged.push(id);
          i++;
        } else merged.push(ids[i] ?? 0);
      return merged;
    });
  }
  return merges;
}
