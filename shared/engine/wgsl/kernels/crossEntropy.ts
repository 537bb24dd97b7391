/**
 * @file Cross-entropy over integer labels, and the gradient of the logits in the same kernel: no one-hot, no probabilities in
 * memory. A workgroup reads a row twice, once for maximum and Σ exp together, once for the gradient, which may overwrite it.
 * A vocabulary cut into chunks takes a kernel for each chunk's share of maximum and sum, then one for each chunk's gradient.
 */
import type { FusedOp } from "../fused.ts";
import { type Lanes, literal, type Reader, Shader, type ShaderContext, typeOf, type Writer } from "../shader.ts";
import { defineReduce, finishKernel, forEachRow, type Kernel, type Reduction } from "./kernel.ts";

export function crossEntropyKernels(context: ShaderContext, { core }: FusedOp, most: Lanes): Kernel[] {
  if (core.kind !== "crossEntropy") throw new Error(`a loss's kernel for ${core.kind}`);
  const { chunks, targets, result, state } = core;
  const scale = core.scale * context.lossScale;
  const sums = chunks.map(({ logits, dLogits, first }, i) => {
    const { shader, rows, columns, lanes, count, chunk, threads, workgroups, head } = open(context, logits, most);
    const labels = shader.bind(targets, "i32");
    const loss = i === chunks.length - 1 ? shader.write(result, "f32") : null;
    const memory = state === null ? null : shader.write(state, "f32");
    const gradient = state === null && dLogits !== null ? shader.write(dLogits, typeOf(lanes)) : null;
    defineReduce(shader, threads, LOG_SUM_EXP);
    shader.define("merge", MERGE);
    if (context.subgroups) shader.define("mergeSubgroup", MERGE_SUBGROUP);
    const before = i === 0 || state === null ? null : shader.read(state, "f32");
    const begin = before === null ? "vec3<f32>(LOWEST, 0.0, 0.0)" : `vec3<f32>(${[0, 1, 2].map((n) => before(stateAt(n))).join(", ")})`; // prettier-ignore
    const body = `${head}
  var own = vec2<f32>(LOWEST, 0.0);
  for (var column = lane; column < ${count}u; column += ${threads}u) {
    let x = ${chunk(`row * ${count}u + column`)};
    ${eachLane(lanes, (x) => `own = merge(own, vec2<f32>(${x}, 1.0));`)}
  }
  let before = ${begin};
  let whole = merge(before.xy, reduce(lane, own));
  let label = ${labels}[row];
  var chosen = before.z;
  if (label >= ${first} && label < ${first + columns}) {
    let at = row * ${columns}u + u32(label - ${first});
    chosen = ${lanes === 4 ? `${chunk("at / 4u")}[at % 4u]` : chunk("at")};
  }
  let logSumExp = whole.x + log(whole.y);
  ${memory === null ? "" : `if (lane == 0u) { ${["whole.x", "whole.y", "chosen"].map((value, n) => memory(stateAt(n), value)).join(" ")} }`}
  ${loss === null ? "" : `if (lane == 0u) { ${loss("row", "select(0.0f, logSumExp - chosen, label >= 0)")} }`}
  ${gradient === null ? "" : `${threads === 1 ? "" : "storageBarrier();"}\n  ${gradientLoop({ chunk, gradient, lanes, count, threads, first, scale })}`}
}`;
    const name = `crossEntropy ${rows}×${columns}`;
    return finishKernel(shader, { name, workgroups, flops: 8 * rows * columns, body });
  });
  if (state === null) return sums;
  const gradients = chunks.flatMap(({ logits, dLogits, first }) => {
    if (dLogits === null) return [];
    const { shader, rows, columns, lanes, count, chunk, threads, workgroups, head } = open(context, logits, most);
    const labels = shader.bind(targets, "i32");
    const memory = shader.read(state, "f32");
    const gradient = shader.write(dLogits, typeOf(lanes));
    const body = `${head}
  let label = ${labels}[row];
  let logSumExp = ${memory(stateAt(0))} + log(${memory(stateAt(1))});
  ${gradientLoop({ chunk, gradient, lanes, count, threads, first, scale })}
}`;
    const name = `crossEntropyGrad ${rows}×${columns}`;
    return [finishKernel(shader, { name, workgroups, flops: 3 * rows * columns, body })];
  });
  return [...sums, ...gradients];
}

/** (maximum, Σ exp(x − maximum)) of two sets. Arguments of exp are clamped: it may overflow to anything, and −∞ − −∞ is NaN. */
const MERGE = `const LOWEST = -3.0e38f;
fn merge(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let most = max(a.x, b.x);
  return vec2<f32>(most, a.y * exp(max(a.x - most, -88.0f)) + b.y * exp(max(b.x - most, -88.0f)));
}`;

const MERGE_SUBGROUP = `fn mergeSubgroup(own: vec2<f32>) -> vec2<f32> {
  let most = subgroupMax(own.x);
  return vec2<f32>(most, subgroupAdd(own.y * exp(max(own.x - most, -88.0f))));
}`;

const LOG_SUM_EXP: Reduction = {
  type: "vec2<f32>",
  combine: (a, b) => `merge(${a}, ${b})`,
  identity: "vec2<f32>(LOWEST, 0.0)",
  ofSubgroup: (own) => `mergeSubgroup(${own})`,
};

function open(context: ShaderContext, logits: number, most: Lanes) {
  const shader = new Shader(context);
  const [rows = 0, columns = 1] = shader.shape(logits);
  const lanes: Lanes = most === 4 && columns % 4 === 0 ? 4 : 1;
  const count = columns / lanes;
  return {
    shader,
    rows,
    columns,
    lanes,
    count,
    chunk: shader.read(logits, typeOf(lanes)),
    ...forEachRow(context, { rows, work: count }),
  };
}

/** Maximum, Σ exp and chosen logit of the workgroup's row. */
function stateAt(n: number): string {
  return n === 0 ? "row * 3u" : `row * 3u + ${n}u`;
}

/** scale·(softmax − onehot) in counted rows, 0 elsewhere. */
function gradientLoop({
  chunk,
  gradient,
  lanes,
  count,
  threads,
  first,
  scale,
}: {
  chunk: Reader;
  gradient: Writer;
  lanes: Lanes;
  count: number;
  threads: number;
  first: number;
  scale: number;
}): string {
  // prettier-ignore
  const T = typeOf(lanes);
  const index = `${first} + i32(column * ${lanes}u)`;
  const chosen = lanes === 4 ? `vec4<i32>(label) == vec4<i32>(${index}) + vec4<i32>(0, 1, 2, 3)` : `label == ${index}`;
  return `for (var column = lane; column < ${count}u; column += ${threads}u) {
    let i = row * ${count}u + column;
    let p = exp(max(${chunk("i")} - logSumExp, ${T}(-88.0)));
    let difference = p - select(${T}(0.0), ${T}(1.0), ${chosen});
    ${gradient("i", `select(${T}(0.0), difference * ${literal(scale)}, label >= 0)`)}
  }`;
}

function eachLane(lanes: Lanes, write: (x: string) => string): string {
  return lanes === 4 ? [0, 1, 2, 3].map((i) => write(`x[${i}]`)).join("\n    ") : write("x");
}
