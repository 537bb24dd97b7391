/**
 * @file Causal attention in the manner of FlashAttention (Dao et al., 2205.14135): queries in tiles of 32, each against the tiles of
 * keys up to its own, with a running maximum and sum, so that no [T, T] is ever in memory. ln Σ exp is kept; the gradient
 * computes probabilities from it again. 64 threads, 8×8, each with 4×4 of a tile of scores.
 */
import type { FusedOp } from "../fused.ts";
import {
  defineDropout,
  type Lanes,
  literal,
  type Reader,
  Shader,
  type ShaderContext,
  typeOf,
  type Writer,
} from "../shader.ts";
import type { ValueId } from "../../graph.ts";
import { each, finishKernel, inARow, type Kernel } from "./kernel.ts";

/** Rows of queries or keys in a tile, and features in workgroup memory at a time. */
const TILE = 32;
const THREADS = 64;

export function attentionKernel(context: ShaderContext, { core }: FusedOp, most: Lanes): Kernel {
  if (core.kind !== "attention") throw new Error(`an attention's kernel for ${core.kind}`);
  const shape = headsOf(context, core.qkv, core.attributes, most);
  const { batch, heads, length, features, tiles } = shape;
  const shader = new Shader(context);
  qkvReader(shader, core.qkv, shape);
  const out = shader.write(core.result, typeOf(shape.lanes));
  const logSumExp = core.logSumExp === null ? null : shader.write(core.logSumExp, "f32");
  const keep = dropoutOf(shader, core.keys, shape);
  const chunks = Math.ceil(features / TILE);
  const body = `${memory()}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${place(shape)}
  let queries = vec4<u32>(first + ty * 4u) + vec4<u32>(0, 1, 2, 3);
  var most = vec4<f32>(LOWEST);
  var sum = vec4<f32>();
  ${accumulators("o", chunks)}
  for (var block = 0u; block <= tile; block++) {
    let keys = block * ${TILE}u;
    ${scores(shape, { a: part(0, "first"), b: part(1, "keys"), into: "s" })}
    ${each(4, (j) => `let key${j} = keys + tx * 4u + ${j}u;\nlet valid${j} = (vec4<u32>(key${j}) <= queries)${andInside(`key${j}`, length)};\ns${j} = select(vec4<f32>(LOWEST), s${j} * ${literal(features ** -0.5)}, valid${j});`)}
    let highest = max(most, across(lane, max(max(s0, s1), max(s2, s3)), true));
    let shrink = exp(max(most - highest, vec4<f32>(-88.0)));
    most = highest;
    ${each(4, (j) => `s${j} = select(vec4<f32>(), exp(max(s${j} - most, vec4<f32>(-88.0))), valid${j});`)}
    sum = sum * shrink + across(lane, s0 + s1 + s2 + s3, false);
    ${each(4, (j) => `weights[(tx * 4u + ${j}u) * 8u + ty] = s${j}${keep(`queries`, `vec4<u32>(key${j})`)};`)}
    ${eachAccumulator("o", chunks, (name, r) => `${name} *= shrink[${r}];`)}
    ${accumulate("o", chunks, part(2, "keys"))}
  }
  ${logSumExp === null ? "" : `if (tx == 0u) { ${each(4, (r) => `${when(`queries[${r}]`, length)} { ${logSumExp(`head * ${length}u + queries[${r}]`, `most[${r}] + log(sum[${r}])`)} }`)} }`}
  ${eachAccumulator("o", chunks, (name, r, c) => store(out, `sampleStart * ${heads * features}u + headStart + queries[${r}] * ${heads * features}u`, `${name} / sum[${r}]`, `queries[${r}]`, c, shape))}
}`;
  const { workgroups } = inARow(batch * heads * tiles);
  const flops = 2 * batch * heads * length * (length + 1) * features;
  return finishKernel(shader, { name: `attention ${batch}×${heads}×${length}×${features}`, workgroups, flops, body });
}

/**
 * With p the probabilities, m the dropout factors and D = dy·out of each query: dv = (p∘m)ᵀ·dy, ds = p∘((dy·vᵀ)∘m − D)/√e,
 * dq = ds·k, dk = dsᵀ·q. One kernel by tiles of queries makes D and dq, one by tiles of keys dk and dv.
 */
export function attentionGradKernels(context: ShaderContext, { core }: FusedOp, most: Lanes): Kernel[] {
  if (core.kind !== "attentionGrad") throw new Error(`an attention's gradient for ${core.kind}`);
  const shape = headsOf(context, core.qkv, core.attributes, most);
  const { batch, heads, length, features, tiles } = shape;
  const chunks = Math.ceil(features / TILE);
  const scale = literal(features ** -0.5);
  const { workgroups } = inARow(batch * heads * tiles);
  const name = `${batch}×${heads}×${length}×${features}`;
  const flops = 2 * batch * heads * length * (length + 1) * features;
  const dqkvAt = (rows: string, r: number, piece: number) =>
    `sampleStart * ${3 * heads * features}u + headStart + ${rows}[${r}] * ${3 * heads * features}u + ${piece * heads * features}u`;

  const byQuery = new Shader(context);
  qkvReader(byQuery, core.qkv, shape);
  outReader(byQuery, "readGrad", core.dy, shape);
  outReader(byQuery, "readOut", core.out, shape);
  const lse = byQuery.read(core.logSumExp, "f32");
  const along = byQuery.write(core.along, "f32");
  const dq = byQuery.write(core.result, typeOf(shape.lanes));
  const keepQ = dropoutOf(byQuery, core.keys, shape);
  const queryBody = `${memory()}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${place(shape)}
  let queries = vec4<u32>(first + ty * 4u) + vec4<u32>(0, 1, 2, 3);
  var own = vec4<f32>();
  for (var f = tx * 4u; f < ${features}u; f += ${TILE}u) {
    ${each(4, (r) => `own[${r}] += dot(readGrad(sampleStart, headStart, queries[${r}], f), readOut(sampleStart, headStart, queries[${r}], f));`)}
  }
  let parallel = across(lane, own, false);
  if (tx == 0u) { ${each(4, (r) => `${when(`queries[${r}]`, length)} { ${along(`head * ${length}u + queries[${r}]`, `parallel[${r}]`)} }`)} }
  let row = vec4<u32>(head * ${length}u) + min(queries, vec4<u32>(${length - 1}u));
  let normaliser = vec4<f32>(${each(4, (r) => lse(`row[${r}]`), ", ")});
  ${accumulators("o", chunks)}
  for (var block = 0u; block <= tile; block++) {
    let keys = block * ${TILE}u;
    ${scores(shape, { a: part(0, "first"), b: part(1, "keys"), into: "s" })}
    ${scores(shape, { a: grad("first"), b: part(2, "keys"), into: "d" })}
    workgroupBarrier();
    ${each(
      4,
      (j) => `let key${j} = keys + tx * 4u + ${j}u;
    let valid${j} = (vec4<u32>(key${j}) <= queries)${andInside(`key${j}`, length)};
    let p${j} = select(vec4<f32>(), exp(clamp(s${j} * ${scale} - normaliser, vec4<f32>(-88.0), vec4<f32>(0.5))), valid${j});
    weights[(tx * 4u + ${j}u) * 8u + ty] = p${j} * (d${j}${keepQ("queries", `vec4<u32>(key${j})`)} - parallel) * ${scale};`,
    )}
    ${accumulate("o", chunks, part(1, "keys"))}
  }
  ${eachAccumulator("o", chunks, (name, r, c) => store(dq, dqkvAt("queries", r, 0), name, `queries[${r}]`, c, shape))}
}`;

  const byKey = new Shader(context);
  qkvReader(byKey, core.qkv, shape);
  outReader(byKey, "readGrad", core.dy, shape);
  const lseK = byKey.read(core.logSumExp, "f32");
  const alongK = byKey.read(core.along, "f32");
  const dkv = byKey.write(core.result, typeOf(shape.lanes));
  const keepK = dropoutOf(byKey, core.keys, shape);
  const keyBody = `${memory()}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${place(shape)}
  let keys = vec4<u32>(first + ty * 4u) + vec4<u32>(0, 1, 2, 3);
  ${accumulators("k", chunks)}
  ${accumulators("v", chunks)}
  for (var block = tile; block < ${tiles}u; block++) {
    let queries = block * ${TILE}u;
    ${scores(shape, { a: part(1, "first"), b: part(0, "queries"), into: "s" })}
    ${scores(shape, { a: part(2, "first"), b: grad("queries"), into: "d" })}
    workgroupBarrier();
    ${each(
      4,
      (j) => `let query${j} = queries + tx * 4u + ${j}u;
    let row${j} = head * ${length}u + min(query${j}, ${length - 1}u);
    let valid${j} = (vec4<u32>(query${j}) >= keys)${andInside(`query${j}`, length)};
    let p${j} = select(vec4<f32>(), exp(clamp(s${j} * ${scale} - ${lseK(`row${j}`)}, vec4<f32>(-88.0), vec4<f32>(0.5))), valid${j});
    ${core.keys === null ? "" : `let m${j} = vec4<f32>(1.0)${keepK(`vec4<u32>(query${j})`, "keys")};`}
    let ds${j} = p${j} * (d${j}${core.keys === null ? "" : ` * m${j}`} - ${alongK(`row${j}`)}) * ${scale};
    weights[(tx * 4u + ${j}u) * 8u + ty] = p${j}${core.keys === null ? "" : ` * m${j}`};`,
    )}
    ${accumulate("v", chunks, grad("queries"))}
    workgroupBarrier();
    ${each(4, (j) => `weights[(tx * 4u + ${j}u) * 8u + ty] = ds${j};`)}
    ${accumulate("k", chunks, part(0, "queries"))}
  }
  ${eachAccumulator("k", chunks, (name, r, c) => store(dkv, dqkvAt("keys", r, 1), name, `keys[${r}]`, c, shape))}
  ${eachAccumulator("v", chunks, (name, r, c) => store(dkv, dqkvAt("keys", r, 2), name, `keys[${r}]`, c, shape))}
}`;
  return [
    finishKernel(byQuery, { name: `attentionGrad queries ${name}`, workgroups, flops: 1.5 * flops, body: queryBody }),
    finishKernel(byKey, { name: `attentionGrad keys ${name}`, workgroups, flops: 2 * flops, body: keyBody }),
  ];
}

type Heads = { batch: number; heads: number; length: number; features: number; tiles: number; lanes: Lanes };

function headsOf(
  { values }: ShaderContext,
  qkv: ValueId,
  { batch, context, heads }: Readonly<Record<string, unknown>>,
  most: Lanes,
): Heads {
  // prettier-ignore
  const [, packed = 0] = values[qkv]?.shape ?? [];
  const features = packed / 3 / Number(heads);
  const length = Number(context);
  const lanes: Lanes = most === 4 && features % 4 === 0 ? 4 : 1;
  return { batch: Number(batch), heads: Number(heads), length, features, tiles: Math.ceil(length / TILE), lanes };
}

/** Which sample, head and tile the workgroup has, and which 4×4 of a tile the thread. */
function place({ batch, heads, length, features, tiles }: Heads): string {
  const { at, unless } = inARow(batch * heads * tiles);
  return `let number = ${at};
  ${unless("number")}
  let tile = number % ${tiles}u;
  let head = number / ${tiles}u;
  let sample = head / ${heads}u;
  let sampleStart = sample * ${length}u;
  let headStart = (head % ${heads}u) * ${features}u;
  let first = tile * ${TILE}u;
  let tx = lane % 8u;
  let ty = lane / 8u;`;
}

/** Workgroup memory: 13 KiB of the 16 that every device has. `across` reduces over the eight threads with the same rows. */
function memory(): string {
  return `const LOWEST = -3.0e38f;
var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;
var<workgroup> weights: array<vec4<f32>, 256>;
var<workgroup> shared_rows: array<vec4<f32>, ${THREADS}>;
fn across(lane: u32, value: vec4<f32>, largest: bool) -> vec4<f32> {
  workgroupBarrier();
  shared_rows[lane] = value;
  workgroupBarrier();
  let start = lane / 8u * 8u;
  var result = shared_rows[start];
  for (var i = 1u; i < 8u; i++) {
    let other = shared_rows[start + i];
    result = select(result + other, max(result, other), largest);
  }
  return result;
}`;
}

/** A reader's call for row `row` of a tile and feature `f`. */
type Rows = (row: string, f: string) => string;

function part(which: 0 | 1 | 2, first: string): Rows {
  return (row, f) => `readQkv(sampleStart, headStart, ${which}u, ${first} + ${row}, ${f})`;
}

function grad(first: string): Rows {
  return (row, f) => `readGrad(sampleStart, headStart, ${first} + ${row}, ${f})`;
}

/** into_j = Σ_f a[rows ty·4…][f]·b[row tx·4 + j][f]: a vector over a's rows for each of four rows of b. */
function scores({ features }: Heads, { a, b, into }: { a: Rows; b: Rows; into: string }): string {
  const depth = Math.min(TILE, Math.ceil(features / 4) * 4);
  const load = (memory: string, rows: Rows, prefix: string) => `
      ${each(4, (i) => `let ${prefix}${i} = ${rows(`quad * 4u + ${i}u`, "f + deep * 4u")};`)}
      ${each(4, (i) => `${memory}[(deep * 4u + ${i}u) * 8u + quad] = vec4<f32>(${prefix}0[${i}], ${prefix}1[${i}], ${prefix}2[${i}], ${prefix}3[${i}]);`)}`;
  return `${each(4, (j) => `var ${into}${j} = vec4<f32>();`)}
    for (var f = 0u; f < ${features}u; f += ${TILE}u) {
      let quad = lane / 8u;
      let deep = lane % 8u;
      workgroupBarrier();
      ${load("left", a, "l")}
      ${load("right", b, "r")}
      workgroupBarrier();
      for (var k = 0u; k < ${depth}u; k++) {
        let x = left[k * 8u + ty];
        let y = right[k * 8u + tx];
        ${each(4, (j) => `${into}${j} = fma(x, vec4<f32>(y[${j}]), ${into}${j});`)}
      }
    }`;
}

/** name[rows ty·4…][features] += Σ_s weights[s][rows]·x[s][features], in chunks of features. */
function accumulate(name: string, chunks: number, x: Rows): string {
  return each(
    chunks,
    (c) => `workgroupBarrier();
    for (var i = lane; i < 256u; i += ${THREADS}u) { right[i] = ${x("i / 8u", `${c * TILE}u + i % 8u * 4u`)}; }
    workgroupBarrier();
    for (var s = 0u; s < ${TILE}u; s++) {
      let w = weights[s * 8u + ty];
      let x = right[s * 8u + tx];
      ${each(4, (r) => `${name}${c}_${r} = fma(vec4<f32>(w[${r}]), x, ${name}${c}_${r});`)}
    }`,
  );
}

function accumulators(name: string, chunks: number): string {
  return eachAccumulator(name, chunks, (name) => `var ${name} = vec4<f32>();`);
}

function eachAccumulator(name: string, chunks: number, write: (name: string, r: number, c: number) => string): string {
  return each(chunks, (c) => each(4, (r) => write(`${name}${c}_${r}`, r, c)));
}

/** What must hold of a row or feature of a tile, where the last tile is not full; else nothing, and nothing is compiled for it. */
function inside(at: string, extent: number): string[] {
  return extent % TILE === 0 ? [] : [`${at} < ${extent}u`];
}

function when(at: string, extent: number): string {
  return inside(at, extent)
    .map((check) => `if (${check})`)
    .join("");
}

function andInside(at: string, extent: number): string {
  return inside(at, extent)
    .map((check) => ` & vec4<bool>(${check})`)
    .join("");
}

/** Zeros for what lies outside the tensor. */
function beyond({ length, features }: Pick<Heads, "length" | "features">): string {
  const checks = [...inside("row", length), ...inside("f", features)];
  return checks.length === 0 ? "" : `if (!(${checks.join(" && ")})) { return vec4<f32>(); }`;
}

/** Four features of a row that exists, to `start` + feature. */
function store(
  array: Writer,
  start: string,
  value: string,
  row: string,
  chunk: number,
  { length, features, lanes }: Heads,
): string {
  // prettier-ignore
  const feature = `(${chunk * TILE}u + tx * 4u)`;
  const write =
    lanes === 4
      ? array(`(${start} + ${feature}) / 4u`, value)
      : `let value = ${value};
      ${each(4, (i) => `if (${feature} + ${i}u < ${features}u) { ${array(`${start} + ${feature} + ${i}u`, `value[${i}]`)} }`)}`;
  const checks = [...inside(row, length), ...inside(feature, features)];
  return checks.length === 0 ? `{ ${write} }` : `if (${checks.join(" && ")}) { ${write} }`;
}

function qkvReader(shader: Shader, qkv: ValueId, { length, features, heads, lanes }: Heads): void {
  const row = 3 * heads * features;
  const at = `(sample + row) * ${row}u + piece * ${heads * features}u + head + f`;
  const element = shader.read(qkv, typeOf(lanes));
  shader.define(
    "readQkv",
    `fn readQkv(sample: u32, head: u32, piece: u32, row: u32, f: u32) -> vec4<f32> {
  ${beyond({ length, features })}
  ${four(element, at, features, lanes)}
}`,
  );
}

/** Reads rows of [B·T, d]. */
function outReader(shader: Shader, name: string, value: ValueId, { length, features, heads, lanes }: Heads): void {
  const element = shader.read(value, typeOf(lanes));
  shader.define(
    name,
    `fn ${name}(sample: u32, head: u32, row: u32, f: u32) -> vec4<f32> {
  ${beyond({ length, features })}
  ${four(element, `(sample + row) * ${heads * features}u + head + f`, features, lanes)}
}`,
  );
}

/** Four features from element `at`, zeros beyond the head's last. */
function four(element: Reader, at: string, features: number, lanes: Lanes): string {
  if (lanes === 4) return `return ${element(`(${at}) / 4u`)};`;
  return `let i = ${at};
  var values = vec4<f32>(${element("i")}, 0.0, 0.0, 0.0);
  if (f + 1u < ${features}u) { values.y = ${element("i + 1u")}; }
  if (f + 2u < ${features}u) { values.z = ${element("i + 2u")}; }
  if (f + 3u < ${features}u) { values.w = ${element("i + 3u")}; }
  return values;`;
}

/** " * factors" of four queries and keys, or nothing without dropout. */
function dropoutOf(
  shader: Shader,
  keys: ValueId | null,
  { heads, length }: Heads,
): (queries: string, keys: string) => string {
  if (keys === null) return () => "";
  const array = shader.bind(keys, "u32");
  defineDropout(shader);
  shader.define(
    "keep4",
    `fn keep4(sample: u32, head: u32, queries: vec4<u32>, keys: vec4<u32>) -> vec4<f32> {
  let key = ${array}[sample];
  let i = (vec4<u32>(head % ${heads}u * ${length}u) + queries) * ${length}u + keys;
  return vec4<f32>(keep(key, i[0]), keep(key, i[1]), keep(key, i[2]), keep(key, i[3]));
}`,
  );
  return (queries, keys) => ` * keep4(sample, head, ${queries}, ${keys})`;
}
