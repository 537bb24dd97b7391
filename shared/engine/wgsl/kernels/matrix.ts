/** @file What the kernels of products share: the factors as they lie in memory, reading four elements of a row, and the ends of a tile. */
import { sizeOf } from "../../../numerics/layout.ts";
import type { Core, FusedOp } from "../fused.ts";
import { fourLanes, type Lanes, Shader, type ShaderContext, typeOf, writeSteps } from "../shader.ts";

/** A matrix, or a batch of them, as it lies in memory. */
type Stored = { readonly batches: number; readonly rows: number; readonly columns: number };

/** op(A)·op(B): [rows, depth]·[depth, columns], before its kernel is written. */
export type Product = {
  readonly shader: Shader;
  readonly core: Extract<Core, { kind: "matMul" }>;
  readonly a: Stored;
  readonly b: Stored;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Elements of the result. */
  readonly size: number;
  /** Of the result; the factors are read four at a time wherever their rows allow it. */
  readonly lanes: Lanes;
  /** Which of the factors is transposed, as BLAS writes it. */
  readonly form: string;
  /** The most lanes that anything may have. */
  readonly most: Lanes;
};

export function openProduct(context: ShaderContext, { core, steps }: FusedOp, most: Lanes): Product {
  if (core.kind !== "matMul") throw new Error(`a product's kernel for ${core.kind}`);
  const { transposeA, transposeB } = core;
  const shader = new Shader(context);
  const [a, b] = [stored(shader.shape(core.a)), stored(shader.shape(core.b))];
  const [rows, depth] = transposeA ? [a.columns, a.rows] : [a.rows, a.columns];
  const columns = transposeB ? b.rows : b.columns;
  const size = a.batches * rows * columns;
  const own = new Set([core.result, ...steps.map(({ output }) => output)]);
  const lanes = most === 4 && columns % 4 === 0 && fourLanes(context, steps, own, size) ? 4 : 1;
  const form = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
  return { shader, core, a, b, rows, columns, depth, size, lanes, form, most };
}

/**
 * Defines `readA` and `readB` for a kernel's tiles, and `finish(batch, row, column, value)`, which takes the steps and stores; its column
 * is in units of lanes. `whole`: in which directions tiles end where the matrix does: nothing there lies outside, and no bound need be
 * checked (or compiled).
 */
export function defineEnds(
  { shader, core, a, b, rows, columns, size, lanes, most }: Product,
  { steps, stores }: FusedOp,
  whole: { readonly rows: boolean; readonly columns: boolean; readonly depth: boolean },
): void {
  const { transposeA, transposeB } = core;
  const wholeA = transposeA ? { rows: whole.depth, columns: whole.rows } : { rows: whole.rows, columns: whole.depth };
  const wholeB = transposeB
    ? { rows: whole.columns, columns: whole.depth }
    : { rows: whole.depth, columns: whole.columns };
  reader(shader, "readA", core.a, a, lanesOf(a, most), wholeA);
  reader(shader, "readB", core.b, b, lanesOf(b, most), wholeB);
  const place = `${a.batches > 1 ? `batch * ${(rows * columns) / lanes}u + ` : ""}row * ${columns / lanes}u + column`;
  const position = { lanes, size, index: "i", column: { index: "column", columns } } as const;
  const lines = writeSteps(shader, steps, stores, position, new Map([[core.result, "value"]]));
  shader.define(
    "finish",
    `fn finish(batch: u32, row: u32, column: u32, value: ${typeOf(lanes)}) {
  let i = ${place};
  ${lines.join("\n  ")}
}`,
  );
}

/** As how many lanes a factor is bound. */
export function lanesOf({ columns }: Stored, most: Lanes): Lanes {
  return most === 4 && columns % 4 === 0 ? 4 : 1;
}

function stored(shape: readonly number[]): Stored {
  const [rows = 1, columns = 1] = shape.slice(-2);
  return { batches: sizeOf(shape.slice(0, -2)), rows, columns };
}

/** WGSL of `name(batch, row, column)`: four elements of a row, 0 outside the matrix, unless nobody asks for what lies there. */
function reader(
  shader: Shader,
  name: string,
  value: number,
  { batches, rows, columns }: Stored,
  lanes: Lanes,
  whole: { readonly rows: boolean; readonly columns: boolean },
): void {
  const element = shader.read(value, typeOf(lanes));
  const start = batches > 1 ? `batch * ${(rows * columns) / lanes}u + ` : "";
  const outside = [...(whole.rows ? [] : [`row >= ${rows}u`]), ...(whole.columns ? [] : [`column >= ${columns}u`])];
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
  ${outside.length === 0 ? "" : `if (${outside.join(" || ")}) { return vec4<f32>(); }`}
  ${inside}
}`,
  );
}
