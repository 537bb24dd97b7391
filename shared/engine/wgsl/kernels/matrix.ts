/** @file The factors of a product as they lie in memory, and reading four elements of a row at once. */
import { sizeOf } from "../../../numerics/layout.ts";
import type { Core } from "../fused.ts";
import { type Lanes, type Shader, typeOf } from "../shader.ts";

/** A matrix, or a batch of them, as it lies in memory. */
export type Stored = { readonly batches: number; readonly rows: number; readonly columns: number };

/** op(A)·op(B): [rows, depth]·[depth, columns], and which of them is transposed, as BLAS writes it. */
export function productOf(
  shader: Shader,
  { a: first, b: second, transposeA, transposeB }: Extract<Core, { kind: "matMul" }>,
): { a: Stored; b: Stored; rows: number; columns: number; depth: number; form: string } {
  const [a, b] = [stored(shader.shape(first)), stored(shader.shape(second))];
  const [rows, depth] = transposeA ? [a.columns, a.rows] : [a.rows, a.columns];
  const columns = transposeB ? b.rows : b.columns;
  return { a, b, rows, columns, depth, form: `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}` };
}

function stored(shape: readonly number[]): Stored {
  const [rows = 1, columns = 1] = shape.slice(-2);
  return { batches: sizeOf(shape.slice(0, -2)), rows, columns };
}

/** WGSL of `name(batch, row, column)`: four elements of a row, 0 outside the matrix, unless nobody asks for what lies there. */
export function reader(
  shader: Shader,
  name: string,
  value: number,
  { batches, rows, columns }: Stored,
  lanes: Lanes,
  isInside: boolean,
): void {
  const element = shader.read(value, typeOf(lanes));
  const start = batches > 1 ? `batch * ${(rows * columns) / lanes}u + ` : "";
  const inside =
    lanes === 4
      ? `return ${element(`${start}row * ${columns / 4}u + column / 4u`)};`
      : `let i = ${start}row * ${columns}u + column;
  var values = vec4<f32>(${element("i")}, 0.0, 0.0, 0.0);
  if (column + 1u < ${columns}u) { values.y = ${element("i + 1u")}; }
  if (column + 2u < ${columns}u) { values.z = ${element("i + 2u")}; }
  if (column + 3u < ${columns}u) { values.w = ${element("i + 3u")}; }
  return values;`;
  shader.define(
    name,
    `fn ${name}(batch: u32, row: u32, column: u32) -> vec4<f32> {
  ${isInside ? "" : `if (row >= ${rows}u || column >= ${columns}u) { return vec4<f32>(); }`}
  ${inside}
}`,
  );
}
