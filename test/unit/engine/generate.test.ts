import { expect, test } from "vitest";
import type { Engine } from "../../../shared/engine/engine.ts";
import { generateText, type GenerateOptions } from "../../../shared/engine/generate.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { bpeTokenizer } from "../../../shared/tokenizer/bpe.ts";
import { trainBpe } from "../../../shared/tokenizer/bpeTrainer.ts";
import { charTokenizer, collectCharacters } from "../../../shared/tokenizer/char.ts";
import type { Tokenizer } from "../../../shared/tokenizer/tokenizer.ts";

const alphabet = charTokenizer(collectCharacters(["abcdefgh"], { endOfText: true }));

const specOf = (tokenizer: Tokenizer): ModelSpec => ({
  kind: "gpt",
  layers: 1,
  heads: 1,
  width: 1,
  context: 4,
  vocabulary: tokenizer.vocabulary,
  bias: false,
  dropout: 0,
});

/** A model that says at every position which token it wants after that one; remembers what it was shown. */
function scripted(spec: ModelSpec, next: (token: number) => number): Engine & { shown: number[][] } {
  const shown: number[][] = [];
  return {
    shown,
    backend: "cpu",
    load: () => Promise.resolve(),
    gradient: () => Promise.reject(new Error("not used")),
    loss: () => Promise.reject(new Error("not used")),
    dispose: () => Promise.resolve(),
    logits(inputs) {
      shown.push(Array.from(inputs));
      const logits = new Float32Array(inputs.length * spec.vocabulary);
      inputs.forEach((token, position) => (logits[position * spec.vocabulary + next(token)] = 50));
      return Promise.resolve(logits);
    },
  };
}

async function generate(tokenizer: Tokenizer, next: (token: number) => number, options: Partial<GenerateOptions>) {
  const spec = specOf(tokenizer);
  const engine = scripted(spec, next);
  const pieces: string[] = [];
  const text = generateText({ engine, spec, tokenizer, prompt: "a", tokens: 5, seed: 1, ...options });
  for await (const piece of text) pieces.push(piece);
  return { pieces, shown: engine.shown };
}

test("each token is drawn at the last one's place, and the window slides when the context is full", async () => {
  const { pieces, shown } = await generate(alphabet, (token) => token + 1, { prompt: "ab", tokens: 4 });
  expect(pieces).toEqual(["c", "d", "e", "f"]);
  // Padding after the last token is 0; the model never sees more than 4.
  expect(shown).toEqual([[0, 1, 0, 0], [0, 1, 2, 0], [0, 1, 2, 3], [1, 2, 3, 4]]); // prettier-ignore
});

test("of an engine that can give one position's logits no others are asked for, and the text is the same", async () => {
  const spec = specOf(alphabet);
  const all = scripted(spec, (token) => token + 1);
  const one: Engine = {
    ...all,
    logits: () => Promise.reject(new Error("all positions were asked for")),
    logitsAt: async (inputs, position) =>
      (await all.logits(inputs, 1)).slice(position * spec.vocabulary, (position + 1) * spec.vocabulary),
  };
  const pieces: string[] = [];
  const text = generateText({ engine: one, spec, tokenizer: alphabet, prompt: "ab", tokens: 4, seed: 1 });
  for await (const piece of text) pieces.push(piece);
  expect(pieces).toEqual(["c", "d", "e", "f"]);
});

test("the model ends a document by ending it", async () => {
  const { pieces } = await generate(alphabet, (token) => token + 1, { prompt: "f", tokens: 100 });
  expect(pieces).toEqual(["g", "h"]);
});

test("an empty prompt begins a document: after end-of-text, else after a new line, else after anything", async () => {
  const end = alphabet.endOfText ?? -1;
  expect((await generate(alphabet, () => 2, { prompt: "", tokens: 1 })).shown).toEqual([[end, 0, 0, 0]]);
  const lines = charTokenizer(collectCharacters(["ab\nc"], { endOfText: false }));
  expect((await generate(lines, () => 2, { prompt: "", tokens: 1 })).shown).toEqual([[0, 0, 0, 0]]);
  const bare = charTokenizer(collectCharacters(["abc"], { endOfText: false }));
  expect((await generate(bare, () => 2, { prompt: "", tokens: 1 })).pieces).toEqual(["c"]);
});

test("bytes are held back until they are a character, and told as U+FFFD when they never are", async () => {
  const bytes = bpeTokenizer(trainBpe(["x"], 257));
  const heart = [0xe2, 0x99, 0xa5];
  const next = (token: number): number => heart[(heart.indexOf(token) + 1) % 3] ?? 0;
  expect((await generate(bytes, next, { prompt: "x", tokens: 6 })).pieces).toEqual(["♥", "♥"]);
  expect((await generate(bytes, next, { prompt: "x", tokens: 4 })).pieces).toEqual(["♥", "\uFFFD"]);
});

test("the seed decides, temperature 0 does not ask it, and an unknown character is refused", async () => {
  const flat = { temperature: 1000, tokens: 40 };
  const text = async (seed: number): Promise<string> =>
    (await generate(alphabet, () => 0, { ...flat, seed })).pieces.join("");
  expect(await text(1)).toBe(await text(1));
  expect(await text(1)).not.toBe(await text(2));
  const { pieces } = await generate(alphabet, () => 3, { temperature: 0, tokens: 3 });
  expect(pieces).toEqual(["d", "d", "d"]);
  await expect(generate(alphabet, () => 0, { prompt: "é" })).rejects.toThrow("U+00E9");
});
