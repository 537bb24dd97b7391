/** @file An engine that takes a batch in pieces: for devices whose memory does not hold the whole. */
import { CODEC_ALIGNMENT, encode, encodedBytes } from "../codec/codec.ts";
import type { Batch, Engine, Loss } from "./engine.ts";

/**
 * The same engine with at most `rows` windows in memory at a time. Gradients and losses are sums, so adding up the pieces gives
 * the batch's, to f32 rounding. A batch that fits passes through untouched.
 *
 * @throws RangeError when rows is not a whole number from 1.
 */
export function inMicroBatches(engine: Engine, rows: number): Engine {
  if (!Number.isInteger(rows) || rows < 1) throw new RangeError(`micro-batches of ${rows} rows: must be at least 1`);
  let piece = new Float32Array();
  let sum = new Float32Array();
  let tookMs = 0;
  const { lastStepMs } = engine;
  const timed = async (step: Promise<Loss>): Promise<Loss> => {
    const loss = await step;
    tookMs += lastStepMs?.() ?? 0;
    return loss;
  };
  const gradient = async (batch: Batch, gradient: Float32Array): Promise<Loss> => {
    tookMs = 0;
    if (batch.batchSize <= rows) return timed(engine.gradient(batch, gradient));
    if (piece.length !== gradient.length) piece = new Float32Array(gradient.length);
    const total = { lossSum: 0, tokens: 0 };
    for (const [index, part] of piecesOf(batch, rows).entries()) {
      add(total, await timed(engine.gradient(part, index === 0 ? gradient : piece)));
      if (index > 0) addInto(gradient, piece);
    }
    return total;
  };
  return {
    ...engine,
    ...(lastStepMs && { lastStepMs: () => tookMs }),
    gradient,
    ...(engine.encodedGradient && {
      encodedGradient: async (batch, payload) => {
        tookMs = 0;
        if (batch.batchSize <= rows) return timed(engine.encodedGradient!(batch, payload));
        // Only the whole can be encoded.
        const elements = (CODEC_ALIGNMENT * payload.length) / encodedBytes("i8", CODEC_ALIGNMENT);
        if (sum.length !== elements) sum = new Float32Array(elements);
        const loss = await gradient(batch, sum);
        encode("i8", sum, payload);
        return loss;
      },
    }),
    async loss(batch) {
      if (batch.batchSize <= rows) return engine.loss(batch);
      const total = { lossSum: 0, tokens: 0 };
      for (const part of piecesOf(batch, rows)) add(total, await engine.loss(part));
      return total;
    },
  };
}

/** Views of the batch's arrays, `rows` windows each, the last one maybe fewer. */
function piecesOf({ batchSize, inputs, targets, dropout }: Batch, rows: number): Batch[] {
  const context = inputs.length / batchSize;
  const pieces: Batch[] = [];
  for (let first = 0; first < batchSize; first += rows) {
    const end = Math.min(batchSize, first + rows);
    const [from, to] = [first * context, end * context];
    const piece = { batchSize: end - first, inputs: inputs.subarray(from, to), targets: targets.subarray(from, to) };
    pieces.push(dropout === undefined ? piece : { ...piece, dropout: { ...dropout, samples: dropout.samples.slice(first, end) } }); // prettier-ignore
  }
  return pieces;
}

function add(total: { lossSum: number; tokens: number }, { lossSum, tokens }: Loss): void {
  total.lossSum += lossSum;
  total.tokens += tokens;
}

/** total[i] += values[i]. A function of its own: inside the async loop it would not be optimised. */
function addInto(total: Float32Array, values: Float32Array): void {
  for (let i = 0; i < total.length; i++) total[i]! += values[i]!;
}
