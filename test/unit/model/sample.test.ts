import { expect, test } from "vitest";
import { samplingProbabilities, sampleToken } from "../../../shared/model/sample.ts";
import { randomUniform, streamKey } from "../../../shared/numerics/rng.ts";

const DRAWS = 20_000;

function frequencies(logits: Float32Array, options: { temperature: number; topK?: number }): number[] {
  const counts = Array.from(logits, () => 0);
  const key = streamKey(5);
  for (let i = 0; i < DRAWS; i++) {
    const token = sampleToken(logits, { ...options, uniform: randomUniform(key, i) });
    counts[token] = (counts[token] ?? 0) + 1;
  }
  return counts.map((count) => count / DRAWS);
}

/** The distribution by its definition. */
function softmax(logits: Float32Array, temperature: number, allowed: readonly number[]): number[] {
  const weights = Array.from(logits, (logit, id) => (allowed.includes(id) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

const logits = Float32Array.of(1.2, -0.3, 2.5, 2.0, -4, 0.7);

test("draws with the probabilities of the softmax, at any temperature and top-k", () => {
  for (const [temperature, topK, allowed] of [
    [1, undefined, [0, 1, 2, 3, 4, 5]],
    [0.5, undefined, [0, 1, 2, 3, 4, 5]],
    [2, 3, [0, 2, 3]],
    [1, 1, [2]],
  ] as const) {
    const found = frequencies(logits, topK === undefined ? { temperature } : { temperature, topK });
    const expected = softmax(logits, temperature, allowed);
    // Five standard deviations of a frequency over 20,000 draws are at most 0.018.
    found.forEach((frequency, id) => expect(Math.abs(frequency - (expected[id] ?? 0)), `${id}`).toBeLessThan(0.018));
    for (const id of [0, 1, 2, 3, 4, 5]) if (!(allowed as readonly number[]).includes(id)) expect(found[id]).toBe(0);
  }
});

test("top-p keeps the likeliest tokens that together reach p, and no more", () => {
  // Probabilities 0.4, 0.3, 0.2, 0.1, shuffled.
  const shuffled = Float32Array.of(Math.log(0.1), Math.log(0.4), Math.log(0.2), Math.log(0.3));
  for (const [topP, expected] of [
    [0.05, [0, 1, 0, 0]],
    [0.39, [0, 1, 0, 0]],
    [0.5, [0, 4 / 7, 0, 3 / 7]],
    [0.75, [0, 4 / 9, 2 / 9, 3 / 9]],
    [0.95, [0.1, 0.4, 0.2, 0.3]],
    [1, [0.1, 0.4, 0.2, 0.3]],
  ] as const) {
    const found = samplingProbabilities(shuffled, { temperature: 1, topP });
    found.forEach((p, id) => expect(p, `token ${id} at top-p ${topP}`).toBeCloseTo(expected[id] ?? NaN, 6));
  }
});

test("top-p looks at what temperature and top-k left; of equal tokens the smaller id stays", () => {
  const odds = Float32Array.of(Math.log(4), Math.log(2), Math.log(1), Math.log(1));
  // At temperature 1/2 the odds are 16, 4, 1, 1; the top 3 of them 16, 4, 1: of these 16/21 = 0.76 and 20/21 = 0.95.
  const found = samplingProbabilities(odds, { temperature: 0.5, topK: 3, topP: 0.9 });
  expect([...found].map((p) => Number(p.toFixed(6)))).toEqual([0.8, 0.2, 0, 0]);
  const equal = samplingProbabilities(Float32Array.of(0, 0, 0, 0), { temperature: 1, topP: 0.5 });
  expect([...equal]).toEqual([0.5, 0.5, 0, 0]);
});

test("what is drawn from is a distribution whatever is asked for", () => {
  const key = streamKey(11);
  for (let round = 0; round < 200; round++) {
    const values = Float32Array.from(
      { length: 1 + (round % 9) },
      (_, i) => 10 * randomUniform(key, 10 * round + i) - 5,
    );
    const sampling = { temperature: 3 * randomUniform(key, 5000 + round), topK: 1 + (round % 5), topP: 0.01 + 0.99 * randomUniform(key, 9000 + round) }; // prettier-ignore
    const found = samplingProbabilities(values, sampling);
    expect(found.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 9);
    expect(found.filter((p) => p > 0).length).toBeLessThanOrEqual(sampling.topK);
  }
});

test("temperature 0 takes the largest, the smaller id of two", () => {
  expect(sampleToken(logits, { temperature: 0, uniform: 0.99 })).toBe(2);
  expect(sampleToken(Float32Array.of(0, 3, 3), { temperature: 0, uniform: 0.99 })).toBe(1);
});

test("among equal logits the smaller ids are the top k", () => {
  const found = frequencies(Float32Array.of(1, 7, 7, 7, 0), { temperature: 1, topK: 2 });
  expect([found[0], found[3], found[4]]).toEqual([0, 0, 0]);
  expect(Math.abs((found[1] ?? 0) - 0.5)).toBeLessThan(0.018);
});

test("huge and tiny logits neither overflow nor lose the draw", () => {
  expect(sampleToken(Float32Array.of(3e38, -3e38), { temperature: 1, uniform: 0.999999 })).toBe(0);
  expect(sampleToken(Float32Array.of(-Infinity, 0, -Infinity), { temperature: 1, uniform: 0 })).toBe(1);
  expect(sampleToken(Float32Array.of(0, 0, 0), { temperature: 1, uniform: 1 - 2 ** -32 })).toBe(2);
});

test("what is no distribution is refused with the number", () => {
  const refused: [Float32Array, { temperature: number; topK?: number; topP?: number; uniform: number }, RegExp][] = [
    [logits, { temperature: -1, uniform: 0 }, /temperature -1/],
    [logits, { temperature: Number.NaN, uniform: 0 }, /temperature NaN/],
    [logits, { temperature: 1, topK: 0, uniform: 0 }, /top-k 0/],
    [logits, { temperature: 1, topP: 0, uniform: 0 }, /top-p 0/],
    [logits, { temperature: 1, topP: 1.01, uniform: 0 }, /top-p 1.01/],
    [logits, { temperature: 1, uniform: 1 }, /uniform 1/],
    [Float32Array.of(0, Number.NaN), { temperature: 1, uniform: 0 }, /logit NaN of token 1/],
    [Float32Array.of(Infinity, 0), { temperature: 0, uniform: 0 }, /logit Infinity of token 0/],
  ];
  for (const [values, options, message] of refused) expect(() => sampleToken(values, options)).toThrow(message);
});
