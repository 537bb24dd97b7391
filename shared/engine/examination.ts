/**
 * @file The examination of an engine: one training step whose answer is known. Parameters and batch are functions of the model
 * alone, so every machine makes the same ones; the gradient is answered as a sketch of a few numbers per tensor.
 */
import type { ModelSpec } from "../model/spec.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { randomUint32, randomUniform, streamKey } from "../numerics/rng.ts";
import type { Batch, Engine } from "./engine.ts";

/** What an engine found: sums over the batch, and {@link sketchOf} the gradient. */
export type Answer = { readonly lossSum: number; readonly tokens: number; readonly sketch: Float64Array };

/**
 * Random projections of a tensor. Two gradients that differ by d, of whatever kind, agree in all of them with probability 0;
 * their mean squared difference estimates ‖d‖² with a relative deviation of √(2/8) = 1/2 (Johnson & Lindenstrauss).
 */
export const PROJECTIONS = 8;

/** Streams of random numbers, apart from each other. */
const [PARAMS, TOKENS, SIGNS] = [0x6578_616d, 0x746f_6b65, 0x7369_676e];

/** Numbers of a sketch: the squared norm and the projections of each tensor. */
export function sketchLength(layout: ParamLayout): number {
  return layout.slots.length * (1 + PROJECTIONS);
}

/**
 * Samples of the examination in a run whose units have so many: a few, which every kernel still shares among several workgroups, and
 * which do not keep a slow device long from its first lease.
 */
export function examinationSamples(unit: number): number {
  return Math.min(unit, 4);
}

/**
 * Runs the examination; once more for its time, where the engine cannot tell that from building shaders, sessions and caches for
 * the first step. The engine's θ is the examination's afterwards. `gradient` [P] is scratch space.
 */
export async function examine({
  engine,
  spec,
  layout,
  batchSize,
  gradient,
  nowMs,
}: {
  engine: Engine;
  spec: ModelSpec;
  layout: ParamLayout;
  batchSize: number;
  gradient: Float32Array;
  nowMs: () => number;
}): Promise<{ answer: Answer; stepMs: number }> {
  await engine.load(examinationParams(layout));
  const batch = examinationBatch(spec, batchSize);
  const { lossSum, tokens } = await engine.gradient(batch, gradient);
  const sketch = sketchOf(layout, gradient);
  const answer = { lossSum, tokens, sketch };
  if (engine.lastStepMs) return { answer, stepMs: engine.lastStepMs() };
  const startMs = nowMs();
  await engine.gradient(batch, gradient);
  return { answer, stepMs: nowMs() - startMs };
}

/**
 * θ [P]: matrices uniform with variance 1/(least extent), so that attention is far from uniform and GELU far from linear,
 * where a fresh model would hide a wrong softmax; gains 1 ± 0.2, biases ± 0.2, so that a bias left out shows.
 */
export function examinationParams(layout: ParamLayout): Float32Array {
  const params = new Float32Array(layout.length);
  for (const [number, { name, shape, offset, size }] of layout.slots.entries()) {
    const key = streamKey(PARAMS, number);
    const centre = shape.length === 1 && !name.endsWith(".bias") ? 1 : 0;
    const width = shape.length === 1 ? 0.2 : Math.sqrt(3 / Math.min(...shape));
    for (let i = 0; i < size; i++) params[offset + i] = centre + width * (2 * randomUniform(key, i) - 1);
  }
  return params;
}

/** Random tokens; every seventh target does not count. */
export function examinationBatch(spec: ModelSpec, batchSize: number): Batch {
  const length = batchSize * spec.context;
  const draw = (stream: number, i: number): number => randomUint32(streamKey(TOKENS, stream), i) % spec.vocabulary;
  return {
    batchSize,
    inputs: Int32Array.from({ length }, (_, i) => draw(0, i)),
    targets: Int32Array.from({ length }, (_, i) => (i % 7 === 5 ? -1 : draw(1, i))),
    dropout: { seed: TOKENS, step: 0, samples: Array.from({ length: batchSize }, (_, row) => row) },
  };
}

/**
 * [tensors × (1 + {@link PROJECTIONS})]: of each tensor g its Σ g², then Σ ±g with {@link PROJECTIONS} fixed sequences of random
 * signs. In f64.
 */
export function sketchOf(layout: ParamLayout, gradient: Float32Array): Float64Array {
  const sketch = new Float64Array(sketchLength(layout));
  for (const [number, { offset, size }] of layout.slots.entries()) {
    const row = sketch.subarray(number * (1 + PROJECTIONS), (number + 1) * (1 + PROJECTIONS));
    sketchTensor(gradient.subarray(offset, offset + size), streamKey(SIGNS, number), row);
  }
  return sketch;
}

function sketchTensor(values: Float32Array, key: number, row: Float64Array): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    const signs = randomUint32(key, i);
    row[0]! += value * value;
    for (let k = 0; k < PROJECTIONS; k++) row[k + 1]! += (signs >>> k) & 1 ? value : -value;
  }
}

/** A tensor whose gradient is a smaller part of the whole than this may differ by as much as one of this size. */
const LEAST_PART = 1e-3;

/**
 * How far an answer is from the expected one, relative: in the loss, and in the gradient of the tensor where it is worst. Sketches
 * of one length.
 */
export function compareAnswers(
  layout: ParamLayout,
  found: Answer,
  expected: Answer,
): { loss: number; worst: { error: number; name: string } } {
  // prettier-ignore
  const loss = Math.abs(found.lossSum - expected.lossSum) / expected.lossSum;
  const wholeNorm = Math.sqrt(layout.slots.reduce((sum, _, number) => sum + rowOf(expected, number)[0]!, 0));
  let worst = { error: 0, name: "" };
  for (const [number, { name }] of layout.slots.entries()) {
    const error = difference(rowOf(found, number), rowOf(expected, number), LEAST_PART * wholeNorm);
    // Negated, so that NaN is the worst of all.
    if (!(error <= worst.error)) worst = { error, name };
    if (Number.isNaN(error)) break;
  }
  return { loss, worst };
}

/** ‖found − expected‖/‖expected‖ of one tensor: exact for a scale, an estimate from the projections for everything else. */
function difference(found: Float64Array, expected: Float64Array, leastNorm: number): number {
  const [norm, expectedNorm] = [Math.sqrt(found[0]!), Math.sqrt(expected[0]!)];
  let squares = 0;
  for (let k = 1; k <= PROJECTIONS; k++) squares += (found[k]! - expected[k]!) ** 2;
  return Math.max(Math.abs(norm - expectedNorm), Math.sqrt(squares / PROJECTIONS)) / Math.max(expectedNorm, leastNorm);
}

function rowOf({ sketch }: Answer, number: number): Float64Array {
  return sketch.subarray(number * (1 + PROJECTIONS), (number + 1) * (1 + PROJECTIONS));
}
