import { expect, test } from "vitest";
import { charTokenizer, collectCharacters } from "../../../shared/tokenizer/char.ts";
import { decode, END_OF_TEXT } from "../../../shared/tokenizer/tokenizer.ts";

test("ids are places in code point order, characters beyond U+FFFF included", () => {
  const model = collectCharacters(["b🙂aé\n｡"], { endOfText: false });
  expect(model.characters).toEqual(["\n", "a", "b", "é", "｡", "🙂"]); // (UTF-16 order would put 🙂 before ｡)
  const tokenizer = charTokenizer(model);
  expect(Array.from(tokenizer.encode("🙂ab"))).toEqual([5, 1, 2]);
  expect(tokenizer.vocabulary).toBe(6);
  expect(tokenizer.endOfText).toBeUndefined();
});

test("the end-of-text token is the last id, and comes when asked for or when the text holds it", () => {
  expect(collectCharacters(["ab"], { endOfText: true }).endOfText).toBe(true);
  const model = collectCharacters([`ab${END_OF_TEXT}ba`], { endOfText: false });
  expect(model).toEqual({ characters: ["a", "b"], endOfText: true });
  const tokenizer = charTokenizer(model);
  expect(Array.from(tokenizer.encode(`ab${END_OF_TEXT}ba`))).toEqual([0, 1, 2, 1, 0]);
  expect(decode(tokenizer, [0, 2])).toBe(`a${END_OF_TEXT}`);
});

test("an unknown character is refused by name and code point", () => {
  const tokenizer = charTokenizer(collectCharacters(["abc"], { endOfText: false }));
  expect(() => tokenizer.encode("abé")).toThrow('the character "é" (U+00E9)');
});
