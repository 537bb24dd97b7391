import "@tensorflow/tfjs-backend-cpu";
import { expect, test } from "vitest";
import { encode, encodedBytes } from "../../../shared/codec/codec.ts";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import type { Engine } from "../../../shared/engine/engine.ts";
import { inMicroBatches } from "../../../shared/engine/microBatch.ts";
import { engineCase, relativeL2 } from "../../support/engineCases.ts";

const { spec, layout, params, batch } = engineCase(
  "dropout, uneven pieces",
  { kind: "gpt", layers: 1, heads: 2, width: 8, context: 6, vocabulary: 13, bias: true, dropout: 0.3 },
  5,
);

/** The engine, and the sizes of the batches it was given. */
async function observed(): Promise<{ engine: Engine; sizes: number[] }> {
  const inner = await createEagerEngine({ spec, layout, backend: "cpu" });
  await inner.load(params);
  const sizes: number[] = [];
  const engine: Engine = {
    ...inner,
    gradient: (part, gradient) => {
      sizes.push(part.batchSize);
      return inner.gradient(part, gradient);
    },
    loss: (part) => {
      sizes.push(part.batchSize);
      return inner.loss(part);
    },
  };
  return { engine, sizes };
}

test("a batch in pieces has the gradient, loss and token count of the whole, dropout included", async () => {
  const { engine, sizes } = await observed();
  const whole = new Float32Array(layout.length);
  const expected = await engine.gradient(batch, whole);
  const found = new Float32Array(layout.length).fill(9);
  const loss = await inMicroBatches(engine, 2).gradient(batch, found);
  expect(sizes).toEqual([5, 2, 2, 1]);
  expect(loss.tokens).toBe(expected.tokens);
  expect(loss.lossSum).toBeCloseTo(expected.lossSum, 4);
  expect(relativeL2(found, whole)).toBeLessThan(1e-6);
  const alone = await inMicroBatches(engine, 3).loss(batch);
  const wholeAlone = await engine.loss(batch);
  expect(alone.tokens).toBe(wholeAlone.tokens);
  expect(alone.lossSum).toBeCloseTo(wholeAlone.lossSum, 4);
});

test("a batch that fits is not touched", async () => {
  const { engine, sizes } = await observed();
  await inMicroBatches(engine, 5).gradient(batch, new Float32Array(layout.length));
  expect(sizes).toEqual([5]);
  expect(() => inMicroBatches(engine, 0)).toThrow("micro-batches of 0 rows");
});

test("an engine that tells its time tells that of all pieces", async () => {
  const { engine } = await observed();
  let steps = 0;
  const timed: Engine = {
    ...engine,
    gradient: (part, gradient) => {
      steps += 1;
      return engine.gradient(part, gradient);
    },
    lastStepMs: () => 10 * steps,
  };
  const pieces = inMicroBatches(timed, 2);
  await pieces.gradient(batch, new Float32Array(layout.length));
  expect(pieces.lastStepMs?.()).toBe(10 + 20 + 30);
  await inMicroBatches(timed, 5).gradient(batch, new Float32Array(layout.length));
  expect(steps).toBe(4);
  expect(inMicroBatches(engine, 2).lastStepMs).toBeUndefined();
});

test("an encoded gradient of a batch in pieces is that of their sum", async () => {
  const { engine, sizes } = await observed();
  const encoding: Engine = { ...engine, encodedGradient: () => Promise.reject(new Error("only the whole can be encoded")) }; // prettier-ignore
  const gradient = new Float32Array(layout.length);
  const expected = await inMicroBatches(engine, 2).gradient(batch, gradient);
  const [bytes, payload] = [0, 9].map((fill) => new Uint8Array(encodedBytes("i8", layout.length)).fill(fill));
  encode("i8", gradient, bytes!);
  sizes.length = 0;
  expect(await inMicroBatches(encoding, 2).encodedGradient!(batch, payload!)).toEqual(expected);
  expect(sizes).toEqual([2, 2, 1]);
  expect(payload).toEqual(bytes);
  await expect(inMicroBatches(encoding, 5).encodedGradient!(batch, payload!)).rejects.toThrow("only the whole");
  expect(inMicroBatches(engine, 2)).not.toHaveProperty("encodedGradient");
});
