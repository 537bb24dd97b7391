import { expect, test } from "vitest";
import { bpeTokenizer, tokenBytes } from "../../../shared/tokenizer/bpe.ts";
import { trainBpe } from "../../../shared/tokenizer/bpeTrainer.ts";
import { decode, END_OF_TEXT, textStream } from "../../../shared/tokenizer/tokenizer.ts";

const spell = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

test("merges the example of the BPE paper in the order worked out by hand", () => {
  const text = " low".repeat(5) + " lower".repeat(2) + " newest".repeat(6) + " widest".repeat(3);
  const model = trainBpe([text], 257 + 5);
  const tokens = tokenBytes(model);
  // 9 times "es", "st": the smaller left id first, so "es", then "est". 7 times " l", "lo", "ow": " " is the smallest id;
  // then "ow" before " l"+"o", because "o" is a byte and " l" a new token; then " low".
  const learned = model.merges.map(({ id }) => spell(tokens[id] ?? new Uint8Array()));
  expect(learned).toEqual(["es", "est", " l", "ow", " low"]);
});

test("a repeated letter merges from the left", () => {
  const model = trainBpe(["aaaaa aaaaa"], 258);
  const tokenizer = bpeTokenizer(model);
  expect(Array.from(tokenizer.encode("aaaaa"))).toEqual([256, 256, 97]);
});

test("training stops when no pair occurs twice", () => {
  expect(trainBpe(["abc"], 1000)).toMatchObject({ merges: [], vocabulary: 257, endOfText: 256 });
});

test("a vocabulary that is not 257 to 65,535 is refused", () => {
  for (const vocabulary of [256, 65_536, 300.5, Number.NaN])
    expect(() => trainBpe(["text"], vocabulary)).toThrow(`not ${vocabulary}`);
});

test("end-of-text in a text is one token and starts a new word", () => {
  const tokenizer = bpeTokenizer(trainBpe(["the cat the cat the cat"], 262));
  const joined = tokenizer.encode(`the cat${END_OF_TEXT}the cat`);
  const half = tokenizer.encode("the cat");
  expect(Array.from(joined)).toEqual([...half, tokenizer.endOfText, ...half]);
  expect(decode(tokenizer, joined)).toBe(`the cat${END_OF_TEXT}the cat`);
});

test("a streamed character appears when its last byte has come", () => {
  const tokenizer = bpeTokenizer(trainBpe(["x"], 257));
  const stream = textStream(tokenizer);
  expect(Array.from(tokenizer.encode("é🙂"), (id) => stream.push(id))).toEqual(["", "é", "", "", "", "🙂"]);
  expect(stream.push(0xf0) + stream.end()).toBe("\uFFFD");
});

test("a megabyte without a space is encoded in a moment, not in quadratic time", () => {
  const tokenizer = bpeTokenizer(trainBpe(["abababab abababab"], 300));
  const text = "ab".repeat(500_000);
  expect(decode(tokenizer, tokenizer.encode(text))).toBe(text);
});

test("an id outside the vocabulary is refused with both numbers", () => {
  const tokenizer = bpeTokenizer(trainBpe(["x"], 257));
  expect(() => tokenizer.bytesOf(257)).toThrow(/257.*257/);
});
