/** @file Layer norm and its gradient. A workgroup keeps a row in registers, so each row is read once; a thread alone reads it again. */
import { LAYER_NORM_EPSILON } from "../../../model/ops/constants.ts";
import type { FusedOp } from "../fused.ts";
import { rowsPerGroup } from "../fuse.ts";
import { fourLanes, type Lanes, literal, Shader, type ShaderContext, typeOf, writeSteps } from "../shader.ts";
import { columnSumOf } from "./columnSum.ts";
import { defineReduce, finishKernel, forEachRow, type Kernel, sumOf } from "./kernel.ts";

/** y = (x − mean)/√(var + ε)·g, then the steps; mean and 1/σ are kept where the gradient needs them. */
export function layerNormKernel(context: ShaderContext, { core, steps, stores }: FusedOp, most: Lanes): Kernel {
  if (core.kind !== "layerNorm") throw new Error(`a norm's kernel for ${core.kind}`);
  const shader = new Shader(context);
  const { rows, width, lanes, count } = rowShape(shader, core, { core, steps, stores }, most);
  const { threads, workgroups, head } = forEachRow(context, { rows, work: count });
  const perThread = Math.ceil(count / threads);
  const T = typeOf(lanes);
  const x = shader.read(core.x, T);
  const gain = shader.read(core.gain, T);
  const statistics = core.statistics === null ? null : shader.write(core.statistics, "f32");
  defineReduce(shader, threads, sumOf("f32"));
  const position = { lanes, size: rows * width, index: "i", column: { index: "column", columns: width } } as const;
  const lines = writeSteps(shader, steps, stores, position, new Map([[core.result, "value"]]));
  const element = x(`row * ${count}u + column`);
  const held = context.alone ? element : "held[p]";
  const body = `${head}
  ${context.alone ? "" : `var held: array<${T}, ${perThread}>;`}
  var sum = 0.0f;
  ${forColumns(perThread, threads, count, context.alone ? `sum += ${total(element, lanes)};` : `held[p] = ${element}; sum += ${total("held[p]", lanes)};`)}
  let mean = reduce(lane, sum) * ${literal(1 / width)};
  var squares = 0.0f;
  ${forColumns(perThread, threads, count, `let d = ${held} - mean; squares += ${dot("d", "d", lanes)};`)}
  let scale = inverseSqrt(reduce(lane, squares) * ${literal(1 / width)} + ${literal(LAYER_NORM_EPSILON)});
  ${statistics === null ? "" : `if (lane == 0u) { ${statistics("row * 2u", "mean")} ${statistics("row * 2u + 1u", "scale")} }`}
  ${forColumns(perThread, threads, count, `let i = row * ${count}u + column;\n    let value = (${held} - mean) * scale * ${gain("column")};\n    ${lines.join("\n    ")}`)}
}`;
  return finishKernel(shader, { name: `layerNorm ${rows}×${width}`, workgroups, flops: 8 * rows * width, body });
}

/**
 * dx = (u − mean(u) − x̂·mean(u∘x̂))/σ with u = dy∘g, then the steps. A workgroup goes through several rows and keeps what they
 * add to the gradients of gain and bias; a second kernel adds the groups up.
 */
export function layerNormGradKernels(context: ShaderContext, { core, steps, stores }: FusedOp, most: Lanes): Kernel[] {
  if (core.kind !== "layerNormGrad") throw new Error(`a norm's gradient for ${core.kind}`);
  const shader = new Shader(context);
  const { rows, width, lanes, count } = rowShape(shader, core, { core, steps, stores }, most);
  const perGroup = rowsPerGroup(rows);
  const groups = Math.ceil(rows / perGroup);
  const { threads, workgroups, head } = forEachRow(context, { rows: groups, work: count, name: "number" });
  const perThread = Math.ceil(count / threads);
  const T = typeOf(lanes);
  const [dy, x, gain] = [shader.read(core.dy, T), shader.read(core.x, T), shader.read(core.gain, T)];
  const statistics = shader.read(core.statistics, "f32");
  const partial = shader.write(core.partial, T);
  defineReduce(shader, threads, sumOf("vec2<f32>"));
  const position = { lanes, size: rows * width, index: "i", column: { index: "column", columns: width } } as const;
  const lines = writeSteps(shader, steps, stores, position, new Map([[core.result, "value"]]));
  const end = rows % perGroup === 0 ? `(number + 1u) * ${perGroup}u` : `min((number + 1u) * ${perGroup}u, ${rows}u)`;
  const sums = core.dBias === null ? 1 : 2;
  const body = `${head}
  var weighted: array<${T}, ${perThread}>;
  var normalised: array<${T}, ${perThread}>;
  var gains: array<${T}, ${perThread}>;
  ${sums === 2 ? `var biases: array<${T}, ${perThread}>;` : ""}
  for (var row = number * ${perGroup}u; row < ${end}; row++) {
    let mean = ${statistics("row * 2u")};
    let scale = ${statistics("row * 2u + 1u")};
    var sum = vec2<f32>();
    ${forColumns(
      perThread,
      threads,
      count,
      `let given = ${dy(`row * ${count}u + column`)};
      let u = given * ${gain("column")};
      let n = (${x(`row * ${count}u + column`)} - mean) * scale;
      weighted[p] = u;
      normalised[p] = n;
      gains[p] += given * n;
      ${sums === 2 ? "biases[p] += given;" : ""}
      sum += vec2<f32>(${total("u", lanes)}, ${dot("u", "n", lanes)});`,
    )}
    let means = reduce(lane, sum) * ${literal(1 / width)};
    ${forColumns(perThread, threads, count, `let i = row * ${count}u + column;\n      let value = (weighted[p] - means.x - normalised[p] * means.y) * scale;\n      ${lines.join("\n      ")}`)}
  }
  ${forColumns(
    perThread,
    threads,
    count,
    `${partial(`number * ${sums * count}u + column`, "gains[p]")}
    ${sums === 2 ? partial(`number * ${sums * count}u + ${count}u + column`, "biases[p]") : ""}`,
  )}
}`;
  const outputs = core.dBias === null ? [core.dGain] : [core.dGain, core.dBias];
  return [
    finishKernel(shader, { name: `layerNormGrad ${rows}×${width}`, workgroups, flops: 14 * rows * width, body }),
    columnSumOf(context, { input: core.partial, rows: groups, columns: sums * width, outputs }, most),
  ];
}

/** `count`: columns in units of `lanes`. */
type RowShape = { rows: number; width: number; lanes: Lanes; count: number };

function rowShape(
  shader: Shader,
  { x, gain }: { x: number; gain: number },
  { core, steps }: FusedOp,
  most: Lanes,
): RowShape {
  const width = shader.size(gain);
  const rows = shader.size(x) / width;
  const own = new Set([...(core.result === null ? [] : [core.result]), ...steps.map(({ output }) => output)]);
  const lanes = most === 4 && width % 4 === 0 && fourLanes(shader.context, steps, own, rows * width) ? 4 : 1;
  return { rows, width, lanes, count: width / lanes };
}

/** The thread's columns: p counts them, `column` is where each is. */
function forColumns(perThread: number, threads: number, count: number, body: string): string {
  return `for (var p = 0u; p < ${perThread}u; p++) {
    let column = p * ${threads}u + lane;
    if (column < ${count}u) { ${body} }
  }`;
}

function total(x: string, lanes: Lanes): string {
  return lanes === 4 ? `dot(${x}, vec4<f32>(1.0))` : x;
}

function dot(x: string, y: string, lanes: Lanes): string {
  return lanes === 4 ? `dot(${x}, ${y})` : `${x} * ${y}`;
}
