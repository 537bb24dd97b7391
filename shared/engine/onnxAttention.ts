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

/** Queries in a block: with fewer, the products become too small to run at full speed. */
const BLOCK_QUERIES = 64;

type Heads = AttentionShape & { readonly features: number };

/** A value [B·T, …] or [B, …], and the shape of one sample's part. */
type Input = { readonly name: string; readonly slice: readonly number[] };

/** What a block of queries [B, H, t, e] needs: the keys and values up to its end [B, H, s, e], probabilities [B, H, t, s]. */
type Block = { q: string; k: string; v: string; p: string; dropped: string; end: number };

export function lowerAttention(
  { inputs: [qkv = -1, mask], outputs: [out = -1], attributes }: GraphNode,
  lowering: Lowering,
): void {
  const shape = headsOf(attributes as AttentionShape, lowering.shape(qkv));
  const { batch, context, heads, features } = shape;
  const names = inputNames(lowering, shape, { qkv, mask });
  /** → [B, T, H, e] */
  const forward = (blocks: readonly Block[]) => {
    const mixed = blocks.map(({ dropped, v }) =>
      transpose(lowering, product(lowering, [dropped, v], {}), [0, 2, 1, 3]),
    );
    return concat(lowering, mixed, 1);
  };
  let rows: string;
  if (sampleBySample(shape)) {
    [rows = ""] = lowering.scan(batch, names, [[1, context, heads, features]], ([qkv = "", mask]) => [
      forward(blocksOf(lowering, { ...shape, batch: 1 }, qkv, mask)),
    ]);
  } else {
    const [packed = "", factors] = atOnce(lowering, shape, names);
    rows = forward(lowering.share(`attention ${qkv}`, () => blocksOf(lowering, shape, packed, factors)));
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
    ...[lowering.name(dy), output].map((name) => ({ name, slice: [1, context, heads, features] })),
    ...inputNames(lowering, shape, { qkv, mask }),
  ];
  let rows: string;
  if (sampleBySample(shape)) {
    const packed = [1, context, 3, heads, features];
    [rows = ""] = lowering.scan(batch, names, [packed], ([dy = "", out = "", qkv = "", mask]) => {
      const one = { ...shape, batch: 1 };
      return [backward(lowering, one, { dy, out, mask, blocks: blocksOf(lowering, one, qkv, mask) })];
    });
  } else {
    const [dy = "", out = "", , factors] = atOnce(lowering, shape, names);
    const blocks = lowering.share(`attention ${qkv}`, unseen);
    rows = backward(lowering, shape, { dy, out, mask: factors, blocks });
  }
  lowering.reshape(rows, [batch * context, 3 * heads * features], { outputs: [lowering.target(dqkv)] });
}

/**
 * dy and out [B, T, H, e] → dqkv [B, T, 3, H, e]. Σ_keys p∘dp of the softmax's gradient is dy·out of each query and head: s times
 * less to sum.
 */
function backward(
  lowering: Lowering,
  { batch, context, heads, features }: Heads,
  { dy, out, mask, blocks }: { dy: string; out: string; mask: string | undefined; blocks: readonly Block[] },
): string {
  const alpha = 1 / Math.sqrt(features);
  const queries = context / blocks.length;
  const inBlocks = (x: string) => split(lowering, transpose(lowering, x, [0, 2, 1, 3]), 2, blocks.length);
  const products = lowering.emit("Mul", [dy, out]);
  const sums = inBlocks(lowering.emit("ReduceSum", [products, lowering.constant("int64", [1], [3])])); // [B, H, t, 1]
  const dOuts = inBlocks(dy); // [B, H, t, e]
  const dq: string[] = [];
  const dk: string[][] = [];
  const dv: string[][] = [];
  for (const [i, { q, k, v, p, dropped }] of blocks.entries()) {
    const [dOut = "", sum = ""] = [dOuts[i], sums[i]];
    const dDropped = product(lowering, [dOut, v], { transB: true }); // [B, H, t, s]
    const dp = mask === undefined ? dDropped : lowering.emit("Mul", [dDropped, mask]);
    const ds = lowering.emit("Mul", [lowering.emit("Sub", [dp, sum]), p]);
    dq.push(product(lowering, [ds, k], { alpha }));
    dk.push(split(lowering, product(lowering, [ds, q], { transA: true, alpha }), 2, i + 1));
    dv.push(split(lowering, product(lowering, [dropped, dOut], { transA: true }), 2, i + 1));
  }
  /** The gradient of the j-th block of keys comes from its own queries and all later ones. */
  const sumUp = (parts: readonly string[][]) =>
    parts.map((_, j) => {
      const terms = parts.slice(j).map((blocks) => blocks[j] ?? "");
      return terms.length === 1 ? (terms[0] ?? "") : lowering.emit("Sum", terms);
    });
  // [B, H, 3T, e], then q, k, v beside each other in each token's row.
  const all = concat(lowering, [...dq, ...sumUp(dk), ...sumUp(dv)], 2);
  const apart = lowering.reshape(all, [batch, heads, 3, queries * blocks.length, features]);
  return transpose(lowering, apart, [0, 3, 2, 1, 4]);
}

/** qkv: [B, T, 3, H, e]. */
function blocksOf(lowering: Lowering, shape: Heads, qkv: string, mask: string | undefined): Block[] {
  const { batch, context, heads, features } = shape;
  // A dropout mask comes whole; cutting it up is not worth its own code.
  const count = mask === undefined ? divisorUpTo(context, context / BLOCK_QUERIES) : 1;
  const queries = context / count;
  const apart = transpose(lowering, qkv, [2, 0, 3, 1, 4]);
  const [q = "", k = "", v = ""] = split(lowering, apart, 0, 3).map((x) =>
    lowering.reshape(x, [batch, heads, context, features]),
  );
  return split(lowering, q, 2, count).map((q, i) => {
    const end = (i + 1) * queries;
    const [keys, values] = [prefix(lowering, k, end, context), prefix(lowering, v, end, context)];
    const scores = product(lowering, [q, keys], { transB: true, alpha: 1 / Math.sqrt(features) });
    const causal = lowering.emit("Add", [scores, causalBias(lowering, queries, end)]);
    const p = lowering.emit("Softmax", [causal], { attributes: { axis: -1 } });
    const dropped = mask === undefined ? p : lowering.emit("Mul", [p, mask]);
    return { q, k: keys, v: values, p, dropped, end };
  });
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
  return inputs.map(({ name, slice: [, ...rest] }) => lowering.reshape(name, [batch, ...rest]));
}

function inputNames(
  lowering: Lowering,
  { context, heads, features }: Heads,
  { qkv, mask }: { qkv: number; mask: number | undefined },
): Input[] {
  const packed = { name: lowering.name(qkv), slice: [1, context, 3, heads, features] };
  if (mask === undefined) return [packed];
  return [packed, { name: lowering.name(mask), slice: [1, heads, context, context] }];
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

/** The first `end` of `length` rows of each head. */
function prefix(lowering: Lowering, x: string, end: number, length: number): string {
  if (end === length) return x;
  const [start, stop, axis] = [0, end, 2].map((value) => lowering.constant("int64", [1], [value]));
  return lowering.emit("Slice", [x, start ?? "", stop ?? "", axis ?? ""]);
}

function unseen(): never {
  throw new Error("attention's gradient was lowered before attention itself");
}
