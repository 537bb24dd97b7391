import { expect, test } from "vitest";
import { splitTexts } from "../../../coordinator/corpus/encodeCorpus.ts";

const lengths = ({ train, val }: ReturnType<typeof splitTexts>): [number, number] => [
  train.join("").length,
  val.join("").length,
];

test("one text is cut after nine tenths of its characters: tinyshakespeare's 1,003,854 and 111,540", () => {
  expect(lengths(splitTexts(["x".repeat(1_115_394)]))).toEqual([1_003_854, 111_540]);
});

test("a character of two surrogates counts once and is never cut", () => {
  const text = "🙂".repeat(10) + "ab".repeat(5);
  expect(splitTexts([text])).toEqual({ train: ["🙂".repeat(10) + "abababab"], val: ["ab"] });
  expect(splitTexts(["a" + "🙂".repeat(9)])).toEqual({ train: ["a" + "🙂".repeat(8)], val: ["🙂"] });
});

test("a few texts are cut where nine tenths of all characters end", () => {
  expect(splitTexts(["a".repeat(50), "b".repeat(50)])).toEqual({
    train: ["a".repeat(50), "b".repeat(40)],
    val: ["b".repeat(10)],
  });
  expect(splitTexts(["a".repeat(90), "b".repeat(10)])).toEqual({ train: ["a".repeat(90)], val: ["b".repeat(10)] });
});

test("of ten texts or more every tenth is held out whole", () => {
  const texts = Array.from({ length: 23 }, (_, i) => `${i} `.padEnd(20, "x"));
  const { train, val } = splitTexts(texts);
  expect(val).toEqual([texts[9], texts[19]]);
  expect(train).toHaveLength(21);
});

test("of ten uneven texts, where the tenth is nearly everything, the end is cut instead", () => {
  const texts = [...Array.from({ length: 9 }, () => "short"), "x".repeat(955)];
  expect(lengths(splitTexts(texts))).toEqual([900, 100]);
});
