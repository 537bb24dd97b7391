import { expect, test } from "vitest";
import { trainBpe } from "../../../shared/tokenizer/bpeTrainer.ts";
import { collectCharacters } from "../../../shared/tokenizer/char.ts";
import { bpeToJson, charToJson, readTokenizerJson } from "../../../shared/tokenizer/tokenizerJson.ts";

const bpe = (): Record<string, unknown> =>
  JSON.parse(JSON.stringify(bpeToJson(trainBpe(["to be or not to be"], 260)))) as Record<string, unknown>;

test("reads merges in the newer form too, a pair each", () => {
  const file = bpe();
  const model = file.model as { merges: string[] };
  expect(model.merges[0]).toMatch(/^\S+ \S+$/);
  const newer = { ...file, model: { ...model, merges: model.merges.map((merge) => merge.split(" ")) } };
  const text = "to be, or to bee";
  expect(readTokenizerJson(newer).encode(text)).toEqual(readTokenizerJson(file).encode(text));
});

test("reads end-of-text from added_tokens when model.vocab lacks it", () => {
  const file = bpe();
  const model = file.model as { vocab: Record<string, number> };
  const { "<|endoftext|>": id, ...vocab } = model.vocab;
  expect(readTokenizerJson({ ...file, model: { ...model, vocab } }).endOfText).toBe(id);
});

test("says what it does not support", () => {
  const file = bpe();
  const model = file.model as Record<string, unknown>;
  const refused: [unknown, RegExp][] = [
    [[], /the file must be an object/],
    [{ ...file, normalizer: { type: "NFC" } }, /normalizer is \{"type":"NFC"\}; supported: null/],
    [{ ...file, pre_tokenizer: { type: "Metaspace" } }, /pre_tokenizer.type is "Metaspace"; supported: "ByteLevel"/],
    [{ ...file, model: { ...model, type: "Unigram" } }, /model.type is "Unigram"; supported: "BPE"/],
    [{ ...file, model: { ...model, vocab: { a: 0, b: 0 } } }, /0 … 2, each once/],
    [{ ...file, model: { ...model, vocab: { a: 0, b: 1, "<|endoftext|>": 2 } } }, /lacks the token/],
    [{ ...file, pre_tokenizer: null }, /merges without a pre_tokenizer/],
    [
      { ...charToJson(collectCharacters(["ab"], { endOfText: false })), added_tokens: [{ id: 0, content: "<s>" }] },
      /<s>/,
    ],
  ];
  for (const [json, message] of refused) expect(() => readTokenizerJson(json)).toThrow(message);
});
