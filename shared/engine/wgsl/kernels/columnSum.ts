/** @file Σ over rows of a matrix [rows, columns]: gradients of biases, positions and gains; with one column, of everything. */
import type { ValueId } from "../../graph.ts";
import type { FusedOp, Step } from "../fused.ts";
import { fourLanes, type Lanes, Shader, type ShaderContext, typeOf, writeSteps } from "../shader.ts";
import { byTree, defineReduce, finishKernel, inARow, type Kernel, sumOf } from "./kernel.ts";

const THREADS = 256;

/** Threads of a workgroup that have a column each: few, so that there are several workgroups. */
const ALONE = 4;

export function columnSumKernel(context: ShaderContext, { core }: FusedOp, most: Lanes): Kernel {
  if (core.kind !== "columnSum") throw new Error(`a sum's kernel for ${core.kind}`);
  const { input, rows, columns, prologue, result } = core;
  return columnSumOf(context, { input, rows, columns, prologue, outputs: [result] }, most);
}

/** The sums go to `outputs`, one after another, each an equal part of the columns. */
export function columnSumOf(
  context: ShaderContext,
  {
    input,
    rows,
    columns,
    prologue = [],
    outputs,
  }: { input: ValueId; rows: number; columns: number; prologue?: readonly Step[]; outputs: readonly ValueId[] },
  most: Lanes,
): Kernel {
  const shader = new Shader(context);
  const own = new Set(prologue.map(({ output }) => output));
  const size = rows * columns;
  const part = columns / outputs.length;
  const lanes = most === 4 && part % 4 === 0 && fourLanes(context, prologue, own, size) ? 4 : 1;
  const T = typeOf(lanes);
  const count = columns / lanes;
  // Neighbouring threads read neighbouring columns; the rest of the workgroup shares the rows.
  let across = context.alone ? ALONE : 1;
  while (across < 16 && across < count && !context.alone) across *= 2;
  const threads = context.alone ? ALONE : THREADS;
  const down = threads / across;
  const names = new Map<ValueId, string>();
  const lines = writeSteps(shader, prologue, [], { lanes, size, index: "i" }, names);
  const element = names.get(input) ?? shader.read(input, T)("i");
  // Neighbours have different columns: only where there is but one is a subgroup's sum a column's.
  if (down === 1) defineReduce(shader, 1, sumOf(T));
  else if (across === 1 && context.subgroups) defineReduce(shader, THREADS, sumOf(T));
  else shader.define("reduce", downwards(T, across));
  const results = outputs.map((id) => shader.write(id, T));
  const stores = results.map(
    (write, i) =>
      `if (column >= ${(i * part) / lanes}u && column < ${((i + 1) * part) / lanes}u) { ${write(`column - ${(i * part) / lanes}u`, "sum")} }`,
  );
  const { workgroups, at } = inARow(Math.ceil(count / across));
  const body = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = ${at} * ${across}u + lane % ${across}u;
  var own = ${T}();
  if (column < ${count}u) {
    for (var row = lane / ${across}u; row < ${rows}u; row += ${down}u) {
      let i = row * ${count}u + column;
      ${lines.join("\n      ")}
      own += ${element};
    }
  }
  let sum = reduce(lane, own);
  if (lane < ${across}u) {
    ${stores.join("\n    ")}
  }
}`;
  return finishKernel(shader, { name: `columnSum ${rows}×${columns}`, workgroups, flops: size, body });
}

/** As {@link byTree}, stopping when one row of `across` columns is left: thread i < across holds column i's sum. */
function downwards(type: string, across: number): string {
  const whole = byTree(THREADS, sumOf(type)).split("\n");
  const kept = whole.filter((line) => {
    const half = /lane < (\d+)u/.exec(line)?.[1];
    return half === undefined || Number(half) >= across;
  });
  return kept.join("\n").replace("return reduced[0];", `return reduced[lane % ${across}u];`);
}
