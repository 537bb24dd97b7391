/**
 * @file Causal attention as ONNX nodes. Queries go in blocks, each with the keys up to its end, so that most of what the
 * mask would throw away is never computed. A large batch goes sample by sample (Scan), so that scores stay in the cache
 * and are computed again for the gradient; a small one goes at once, and its gradient reuses the forward pass's values.
 */
import { type AttentionShape, CAUSAL_BIAS } from "../model/ops/attention.ts";
import type { GraphNode } from "./graph.ts";
import { divisorUpTo, type Lowering, product } from "./onnxLowering.ts";

/** Bytes of all scores below which the batch goes at once: a second-level cache and what a core gets of the third. */
const WHOLE_BATCH_BYTES = 2 * 1024 * 1024;

/** Bytes of all probabilities of a step up to which they are kept for the gradient: beyond that, memory is worth more than 1 or 2 % of a step. */
const KEPT_BYTES = 64 * 1024 * 1024;

const ATTENTION_GRAD = "ManyhandsAttentionGrad";

/** Queries in a block: with fewer, the products become too small to run at full speed. */
const BLOCK_QUERIES = 64;

type Heads = AttentionShape & { readonly features: number };

/**
 * How values lie. A single sample's rows come before its heads, [T, H, e], which products read as they are; of several samples the
 * heads come first, [B, H, T, e]. `rows`: the axis of the rows there.
 */
type Arrangement = { readonly single: boolean; readonly rows: number };

const SINGLE: Arrangement = { single: true, rows: 0 };
const SEVERAL: Arrangement = { single: false, rows: 2 };

/** A value [B·T, …] or [B, …], and the shape of one sample's part. */
type Input = { readonly name: string; readonly slice: readonly number[] };

/** What a block of t queries needs: the keys and values of the s rows up to its end, probabilities [B, H, t, s] (without B of a single one). */
type Block = { q: string; k: string; v: string; p: string; dropped: string; end: number };

export function lowerAttention(
  { inputs: [qkv = -1, mask], outputs: [out = -1], attributes }: GraphNode,
  lowering: Lowering,
): void {
  const shape = headsOf(attributes as AttentionShape, lowering.shape(qkv));
  const { batch, context, heads, features } = shape;
  const names = inputNames(lowering, shape, { qkv, mask });
  /** → [B, T, H, e], or of a single one [T, H, e] */
  const forward = (blocks: readonly Block[], { single }: Arrangement) => {
    const mixed = blocks.map(({ dropped, v }) =>
      swapHeads(lowering, product(lowering, [dropped, v], { rowsFirstB: single }), single),
    );
    return concat(lowering, mixed, single ? 0 : 1);
  };
  let rows: string;
  if (sampleBySample(shape)) {
    const kept = keptShapes(lowering, qkv, shape, mask !== undefined);
    const outputs = [[context, heads, features], ...kept];
    const [first = "", ...probabilities] = lowering.scan(batch, names, outputs, ([qkv = "", mask]) => {
      const blocks = blocksOf(lowering, shape, SINGLE, { qkv, mask });
      return [forward(blocks, SINGLE), ...kept.map((_, i) => blocks[i]?.p ?? "")];
    });
    rows = first;
    lowering.share(`attention probabilities ${qkv}`, () => kept.map((slice, i) => ({ name: probabilities[i] ?? "", slice }))); // prettier-ignore
  } else {
    const [packed = "", factors] = atOnce(lowering, shape, names);
    const blocks = lowering.share(`attention ${qkv}`, () =>
      blocksOf(lowering, shape, SEVERAL, { qkv: packed, mask: factors }),
    );
    rows = forward(blocks, SEVERAL);
  }
  lowering.reshape(rows, [batch * context, heads * features], { outputs: [lowering.target(out)] });
  lowering.share(`attention output ${qkv}`, () => lowering.name(out));
}

export function lowerAttentionGrad(
  { inputs: [dy = -1, qkv = -1, mask], outputs: [dqkv = -1], attributes }: GraphNode,
  lowering: Lowering,
): void {
  const shape = headsOf(attributes as AttentionShape, lowering.shape(qkv));
  const { batch, context, heads, features } = shape;
  const output = lowering.share(`attention output ${qkv}`, unseen);
  const names = [
    ...[lowering.name(dy), output].map((name) => ({ name, slice: [context, heads, features] })),
    ...inputNames(lowering, shape, { qkv, mask }),
  ];
  let rows: string;
  if (sampleBySample(shape)) {
    const packed = [context, 3, heads, features];
    const kept: Input[] = lowering.share(`attention probabilities ${qkv}`, unseen);
    [rows = ""] = lowering.scan(batch, [...names, ...kept], [packed], ([dy = "", out = "", qkv = "", ...rest]) => {
      const mask = names.length > 3 ? rest.shift() : undefined;
      const blocks = blocksOf(lowering, shape, SINGLE, { qkv, mask, kept: rest });
      return [backward(lowering, shape, SINGLE, { dy, out, mask, blocks })];
    });
  } else {
    const [dy = "", out = "", , factors] = atOnce(lowering, shape, names);
    const blocks = lowering.share(`attention ${qkv}`, unseen);
    rows = backward(lowering, shape, SEVERAL, { dy, out, mask: factors, blocks });
  }
  lowering.reshape(rows, [batch * context, 3 * heads * features], { outputs: [lowering.target(dqkv)] });
}

/**
 * dy and out [B, T, H, e] → dqkv [B, T, 3, H, e], of a single one without B. Σ_keys p∘dp of the softmax's gradient is dy·out of each
 * query and head: s times less to sum.
 */
function backward(
  lowering: Lowering,
  { batch, context, heads, features }: Heads,
  { single, rows }: Arrangement,
  { dy, out, mask, blocks }: { dy: string; out: string; mask: string | undefined; blocks: readonly Block[] },
): string {
  const alpha = 1 / Math.sqrt(features);
  /** The axis of the rows where the heads come first. */
  const headRows = single ? 1 : 2;
  const products = lowering.emit("Mul", [dy, out]);
  const sumOfRows = lowering.emit("ReduceSum", [products, lowering.constant("int64", [1], [-1])]);
  const sums = split(lowering, swapHeads(lowering, sumOfRows, single), headRows, blocks.length); // [B, H, t, 1]
  const dOuts = split(lowering, single ? dy : swapHeads(lowering, dy, false), rows, blocks.length);
  const dq: string[] = [];
  const dk: string[][] = [];
  const dv: string[][] = [];
  for (const [i, { q, k, v, p, dropped }] of blocks.entries()) {
    const [dOut = "", sum = ""] = [dOuts[i], sums[i]];
    const dDropped = product(lowering, [dOut, v], { transB: true, rowsFirstA: single, rowsFirstB: single }); // [B, H, t, s]
    const dp = mask === undefined ? dDropped : lowering.emit("Mul", [dDropped, mask]);
    const ds = lowering.emit("Mul", [lowering.emit("Sub", [dp, sum]), p]);
    dq.push(product(lowering, [ds, k], { alpha, rowsFirstB: single }));
    const [ofKeys, ofValues] = [
      product(lowering, [ds, q], { transA: true, alpha, rowsFirstB: single }),
      product(lowering, [dropped, dOut], { transA: true, rowsFirstB: single }),
    ];
    dk.push(split(lowering, ofKeys, headRows, i + 1));
    dv.push(split(lowering, ofValues, headRows, i + 1));
  }
  /** The gradient of the j-th block of keys comes from its own queries and all later ones. */
  const sumUp = (parts: readonly string[][]) =>
    parts.map((_, j) => {
      const terms = parts.slice(j).map((blocks) => blocks[j] ?? "");
      return terms.length === 1 ? (terms[0] ?? "") : lowering.emit("Sum", terms);
    });
  // [B, H, 3T, e], then q, k, v beside each other in each token's row.
  const all = concat(lowering, [...dq, ...sumUp(dk), ...sumUp(dv)], headRows);
  if (single) return transpose(lowering, lowering.reshape(all, [heads, 3, context, features]), [2, 1, 0, 3]);
  return transpose(lowering, lowering.reshape(all, [batch, heads, 3, context, features]), [0, 3, 2, 1, 4]);
}

/** qkv: [B, T, 3, H, e], of a single one without B. */
function blocksOf(
  lowering: Lowering,
  { batch, context, heads, features }: Heads,
  { single, rows }: Arrangement,
  { qkv, mask, kept = [] }: { qkv: string; mask: string | undefined; kept?: readonly string[] },
): Block[] {
  const { count, queries } = cutUp(context, mask !== undefined);
  const [apart, axis, shape] = single
    ? [qkv, 1, [context, heads, features]]
    : [transpose(lowering, qkv, [2, 0, 3, 1, 4]), 0, [batch, heads, context, features]];
  const [q = "", k = "", v = ""] = split(lowering, apart, axis, 3).map((x) => lowering.reshape(x, shape));
  return split(lowering, q, rows, count).map((q, i) => {
    const end = (i + 1) * queries;
    const [keys, values] = [k, v].map((x) => prefix(lowering, x, { end, length: context, axis: rows })) as [string, string]; // prettier-ignore
    const probabilities = (): string => {
      const alpha = 1 / Math.sqrt(features);
      const scores = product(lowering, [q, keys], { transB: true, rowsFirstA: single, rowsFirstB: single, alpha });
      const causal = lowering.emit("Add", [scores, causalBias(lowering, queries, end)]);
      return lowering.emit("Softmax", [causal], { attributes: { axis: -1 } });
    };
    const p = kept[i] ?? probabilities();
    const dropped = mask === undefined ? p : lowering.emit("Mul", [p, mask]);
    return { q, k: keys, v: values, p, dropped, end };
  });
}

/** A dropout mask comes whole; cutting it up is not worth its own code. */
function cutUp(context: number, hasMask: boolean): { count: number; queries: number } {
  const count = hasMask ? 1 : divisorUpTo(context, context / BLOCK_QUERIES);
  return { count, queries: context / count };
}

/** Of one sample's probabilities, block by block, where all of the step's may be kept for the gradient; none otherwise. */
function keptShapes({ graph }: Lowering, qkv: number, { batch, context, heads }: Heads, hasMask: boolean): number[][] {
  const gradients = graph.nodes.filter(({ op }) => op === ATTENTION_GRAD);
  if (!gradients.some(({ inputs }) => inputs[1] === qkv)) return [];
  const { count, queries } = cutUp(context, hasMask);
  const shapes = Array.from({ length: count }, (_, i) => [heads, queries, (i + 1) * queries]);
  const bytes = shapes.reduce((sum, [heads = 0, rows = 0, keys = 0]) => sum + 4 * batch * heads * rows * keys, 0);
  return bytes * gradients.length <= KEPT_BYTES ? shapes : [];
}

/** [t, s] to add to the scores of the last t queries of s. */
function causalBias(lowering: Lowering, queries: number, end: number): string {
  return lowering.share(`causal ${queries}×${end}`, () =>
    lowering.constant(
      "float32",
      [queries, end],
      Array.from({ length: queries * end }, (_, i) =>
        i % end > end - queries + Math.floor(i / end) ? CAUSAL_BIAS : 0,
      ),
    ),
  );
}

function sampleBySample({ batch, context, heads }: Heads): boolean {
  return batch > 1 && 4 * batch * heads * context * context > WHOLE_BATCH_BYTES;
}

function headsOf({ batch, context, heads }: AttentionShape, [, packed = 0]: readonly number[]): Heads {
  return { batch, context, heads, features: packed / 3 / heads };
}

/** The inputs of all samples, in the shapes that slices have. */
function atOnce(lowering: Lowering, { batch }: Heads, inputs: readonly Input[]): string[] {
  return inputs.map(({ name, slice }) => lowering.reshape(name, [batch, ...slice]));
}

function inputNames(
  lowering: Lowering,
  { context, heads, features }: Heads,
  { qkv, mask }: { qkv: number; mask: number | undefined },
): Input[] {
  const packed = { name: lowering.name(qkv), slice: [context, 3, heads, features] };
  if (mask === undefined) return [packed];
  return [packed, { name: lowering.name(mask), slice: [heads, context, context] }];
}

/** Rows and heads, whichever comes first, change places. */
function swapHeads(lowering: Lowering, x: string, single: boolean): string {
  return transpose(lowering, x, single ? [1, 0, 2] : [0, 2, 1, 3]);
}

function transpose(lowering: Lowering, x: string, perm: readonly number[]): string {
  return lowering.emit("Transpose", [x], { attributes: { perm } });
}

function concat(lowering: Lowering, parts: readonly string[], axis: number): string {
  return parts.length === 1 ? (parts[0] ?? "") : lowering.emit("Concat", parts, { attributes: { axis } });
}

function split(lowering: Lowering, x: string, axis: number, count: number): string[] {
  if (count === 1) return [x];
  const outputs = Array.from({ length: count }, () => lowering.fresh());
  lowering.emit("Split", [x], { attributes: { axis, num_outputs: count }, outputs });
  return outputs;
}

/** The first `end` of `length` rows. */
function prefix(
  lowering: Lowering,
  x: string,
  { end, length, axis }: { end: number; length: number; axis: number },
): string {
  if (end === length) return x;
  const bounds = [0, end, axis].map((value) => lowering.constant("int64", [1], [value]));
  return lowering.emit("Slice", [x, ...bounds]);
}

function unseen(): never {
  throw new Error("attention's gradient was lowered before attention itself");
}
