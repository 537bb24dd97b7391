/**
 * @file table[r] += Σ over tokens n with ids[n] = r of dy[n]. The host sorts the tokens by id, so that each row has one workgroup
 * that adds its tokens in order: no atomics, the same bits every time. Rows that no token names are not touched.
 */
import { type FusedOp } from "../fused.ts";
import { type Lanes, Shader, type ShaderContext, typeOf } from "../shader.ts";
import { finishKernel, inARow, type Kernel, threadsFor } from "./kernel.ts";

export function embeddingGradKernels(context: ShaderContext, { core }: FusedOp, most: Lanes): Kernel[] {
  if (core.kind !== "embeddingGrad") throw new Error(`an embedding's gradient for ${core.kind}`);
  const { dy, segments, addend, result, first, rows } = core;
  const inPlace = addend !== null && context.storageOf(addend) === context.storageOf(result);
  const begin = inPlace ? [] : [start(context, { addend, result }, most)];
  const shader = new Shader(context);
  const tokens = (shader.size(segments) - 2) / 3;
  const width = shader.size(dy) / tokens;
  const lanes: Lanes = most === 4 && width % 4 === 0 ? 4 : 1;
  const T = typeOf(lanes);
  const count = width / lanes;
  const from = shader.read(dy, T);
  shader.read(result, T);
  const table = shader.write(result, T);
  const list = shader.bind(segments, "i32");
  const threads = threadsFor(count, 256);
  // At most one segment a token.
  const { workgroups, at } = inARow(tokens);
  const body = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let segment = ${at};
  if (segment >= u32(${list}[0])) { return; }
  let row = ${list}[${tokens + 2}u + segment] - ${first};
  if (row < 0 || row >= ${rows}) { return; }
  let begin = u32(${list}[1u + segment]);
  let end = u32(${list}[2u + segment]);
  for (var column = lane; column < ${count}u; column += ${threads}u) {
    var sum = ${T}();
    for (var n = begin; n < end; n++) {
      sum += ${from(`u32(${list}[${2 * tokens + 2}u + n]) * ${count}u + column`)};
    }
    ${table(`u32(row) * ${count}u + column`, "sum", "+=")}
  }
}`;
  const name = `embeddingGrad ${rows}×${width}`;
  return [...begin, finishKernel(shader, { name, workgroups, flops: tokens * width, body })];
}

/** The table before anything is added: a copy of the addend, or zeros. */
function start(
  context: ShaderContext,
  { addend, result }: { addend: number | null; result: number },
  most: Lanes,
): Kernel {
  const shader = new Shader(context);
  const size = shader.size(result);
  const lanes: Lanes = most === 4 && size % 4 === 0 ? 4 : 1;
  const table = shader.write(result, typeOf(lanes));
  const from = addend === null ? `${typeOf(lanes)}()` : shader.read(addend, typeOf(lanes))("i");
  const { workgroups, at } = inARow(Math.ceil(size / lanes / 256));
  const body = `@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = ${at} * 256u + lane;
  if (i < ${size / lanes}u) { ${table("i", from)} }
}`;
  return finishKernel(shader, { name: `${addend === null ? "clear" : "copy"} ${size}`, workgroups, flops: 0, body });
}
