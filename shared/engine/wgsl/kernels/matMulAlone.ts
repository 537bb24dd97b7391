/**
 * @file C = op(A)·op(B) for adapters that are a processor. There a barrier switches between all threads of a workgroup, workgroup
 * memory is memory like any other, and what costs is the number of loads and of assignments: so a thread computes its part of C
 * in registers alone, loads four elements at a time and adds four products at a time. Some three times as fast on SwiftShader as tiles
 * (`npm run explain -- --measure`, and with `--alone`).
 */
import type { FusedOp } from "../fused.ts";
import { type Lanes, type ShaderContext, typeOf } from "../shader.ts";
import { each, finishKernel, inARow, type Kernel } from "./kernel.ts";
import { defineEnds, lanesOf, openProduct, type Product } from "./matrix.ts";

const THREADS = 32;

/** Of C a thread computes so many rows, and four columns. */
const ROWS = 8;

export function matMulAloneKernel(context: ShaderContext, op: FusedOp, most: Lanes): Kernel {
  const product = openProduct(context, op, most);
  const { shader, core, a, rows, columns, depth, size, lanes, form } = product;
  const { transposeA, transposeB } = core;
  const whole = { rows: rows % ROWS === 0, columns: columns % 4 === 0, depth: depth % 4 === 0 };
  defineEnds(product, op, whole);

  // Four deep: of op(A) four elements of each row, of op(B) four of each column.
  const loads = [
    transposeA
      ? each(4, (i) => each(ROWS / 4, (h) => `let a${i}_${h} = readA(batch, k + ${i}u, row + ${4 * h}u);`))
      : each(ROWS, (r) => `let a${r} = readA(batch, row + ${r}u, k);`),
    transposeB
      ? each(4, (c) => `let b${c} = readB(batch, column + ${c}u, k);`)
      : each(4, (i) => `let b${i} = readB(batch, k + ${i}u, column);`),
  ];
  const left = (r: number, i: number) => (transposeA ? `a${i}_${r >> 2}[${r & 3}]` : `a${r}[${i}]`);
  const leftFour = (r: number) => (transposeA ? `vec4<f32>(${each(4, (i) => left(r, i), ", ")})` : `a${r}`);
  const products = (r: number) =>
    transposeB
      ? `vec4<f32>(${each(4, (c) => `dot(${leftFour(r)}, b${c})`, ", ")})`
      : each(4, (i) => `${left(r, i)} * b${i}`, " + ");
  const store = (r: number) => {
    if (lanes === 4) return guarded(whole.rows, r, `finish(batch, row + ${r}u, column / 4u, c${r});`);
    const one = (c: number) => {
      const statement = `finish(batch, row + ${r}u, column + ${c}u, c${r}[${c}]);`;
      return whole.columns ? statement : `if (column + ${c}u < ${columns}u) { ${statement} }`;
    };
    return guarded(whole.rows, r, each(4, one, " "));
  };
  const guarded = (isWhole: boolean, r: number, statement: string) =>
    isWhole ? statement : `if (row + ${r}u < ${rows}u) { ${statement} }`;
  const [across, down] = [Math.ceil(columns / 4), Math.ceil(rows / ROWS)];
  const threads = a.batches * down * across;
  const { workgroups, at } = inARow(Math.ceil(threads / THREADS));
  const body = `@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = ${at} * ${THREADS}u + lane;
  ${threads % THREADS === 0 ? "" : `if (number >= ${threads}u) { return; }`}
  let column = number % ${across}u * 4u;
  let row = number / ${across}u ${a.batches > 1 ? `% ${down}u ` : ""}* ${ROWS}u;
  let batch = ${a.batches > 1 ? `number / ${across * down}u` : "0u"};
  ${each(ROWS, (r) => `var c${r} = vec4<f32>();`)}
  ${depthOf(product)}
  for (var k = 0u; k < depth; k += 4u) {
    ${loads.join("\n    ")}
    ${each(ROWS, (r) => `c${r} += ${products(r)};`)}
  }
  ${each(ROWS, store)}
}`;
  return finishKernel(shader, {
    name: `matMul ${a.batches > 1 ? `${a.batches}×` : ""}${rows}×${columns}×${depth} ${form} alone`,
    workgroups,
    flops: 2 * size * depth + size * op.steps.length,
    body,
  });
}

/** WGSL of `depth`: from the factor's length where it grows with the batch, whose size is then not in the text. */
function depthOf({ shader, core, a, depth, most }: Product): string {
  if (!core.transposeA || a.batches > 1) return `let depth = ${depth}u;`;
  const lanes = lanesOf(a, most);
  return `let depth = arrayLength(&${shader.bind(core.a, typeOf(lanes))}) / ${a.columns / lanes}u;`;
}
