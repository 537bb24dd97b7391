/**
 * @file C = op(A)·op(B), batched, with elementwise steps on every element of C. A workgroup computes a tile of C; both factors go
 * through workgroup memory in blocks of 4×4, transposed on the way where they have to be, so that the inner loop reads four
 * rows of A and four columns of B at once whichever way they lie in memory.
 */
import type { FusedOp } from "../fused.ts";
import type { Lanes, ShaderContext, ShaderLimits } from "../shader.ts";
import { each, finishKernel, type Kernel } from "./kernel.ts";
import { defineEnds, openProduct } from "./matrix.ts";

/** A tile of rows × columns, `depth` deep in workgroup memory; each thread computes perThread × perThread of it. */
export type Tile = { readonly size: 32 | 64 | 128; readonly depth: 16 | 32; readonly perThread: 4 | 8 };

/** Largest first: the larger a tile, the less often a factor is read; but there must be enough of them to fill the device. */
const TILES: readonly Tile[] = [
  { size: 128, depth: 16, perThread: 8 },
  { size: 64, depth: 32, perThread: 4 },
  { size: 32, depth: 32, perThread: 4 },
];

/** Workgroups below which a smaller tile is worth more than its reuse: the multiprocessors of a middling GPU. */
const ENOUGH_TILES = 32;

/** By shape class and device: the largest tile of which there are enough, and that the limits allow. */
export function chooseTile(rows: number, columns: number, batches: number, limits: ShaderLimits): Tile {
  const allowed = TILES.filter(
    ({ size, depth, perThread }) =>
      (size / perThread) ** 2 <= limits.maxInvocations && 2 * 4 * size * depth <= limits.maxWorkgroupStorageBytes,
  );
  const last = allowed.at(-1);
  if (!last) throw new Error(`no tile fits ${limits.maxWorkgroupStorageBytes} bytes of workgroup memory`);
  const tiles = (size: number) => batches * Math.ceil(rows / size) * Math.ceil(columns / size);
  // A tile of which less than half would be used is no gain either.
  const fits = ({ size }: Tile) => rows > size / 2 && columns > size / 2 && tiles(size) >= ENOUGH_TILES;
  return allowed.find(fits) ?? last;
}

export function matMulKernel(context: ShaderContext, op: FusedOp, most: Lanes): Kernel {
  const product = openProduct(context, op, most);
  const { shader, core, a, rows, columns, depth, size, lanes, form } = product;

  const tile = chooseTile(rows, columns, a.batches, context.limits);
  const threads = (tile.size / tile.perThread) ** 2;
  const side = tile.size / tile.perThread;
  const quads = tile.size / 4;
  const halves = tile.perThread / 4;
  const blocks = quads * (tile.depth / 4);
  const whole = { rows: rows % tile.size === 0, columns: columns % tile.size === 0, depth: depth % tile.depth === 0 };
  defineEnds(product, op, whole);

  const load = (into: string, read: string, origin: string, transposed: boolean) => `
    for (var block = lane; block < ${blocks}u; block += ${threads}u) {
      ${
        transposed
          ? `let quad = block / ${tile.depth / 4}u;
      let deep = block % ${tile.depth / 4}u;`
          : `let quad = block % ${quads}u;
      let deep = block / ${quads}u;`
      }
      let across = ${origin} + quad * 4u;
      let down = k + deep * 4u;
      ${each(4, (i) => (transposed ? `let r${i} = ${read}(batch, across + ${i}u, down);` : `let r${i} = ${read}(batch, down + ${i}u, across);`))}
      ${each(4, (i) => {
        const value = transposed ? `vec4<f32>(r0[${i}], r1[${i}], r2[${i}], r3[${i}])` : `r${i}`;
        return `${into}[(deep * 4u + ${i}u) * ${quads}u + quad] = ${value};`;
      })}
    }`;
  /** Row r and half-row c of what the thread computes. */
  const rowOf = (r: number) => `tileRow + ty * 4u + ${(r >> 2) * (tile.size / 2) + (r & 3)}u`;
  const columnOf = (c: number) => `tileColumn + tx * 4u + ${c * (tile.size / 2)}u`;
  const finish = (r: number, c: number) =>
    lanes === 4
      ? inside(`column${c}`, `finish(batch, row, column${c} / 4u, c${r}_${c});`)
      : each(4, (i) => inside(`column${c} + ${i}u`, `finish(batch, row, column${c} + ${i}u, c${r}_${c}[${i}]);`));
  const inside = (column: string, statement: string) => {
    const checks = [...(whole.rows ? [] : [`row < ${rows}u`]), ...(whole.columns ? [] : [`${column} < ${columns}u`])];
    return checks.length === 0 ? statement : `if (${checks.join(" && ")}) { ${statement} }`;
  };
  const body = `var<workgroup> left: array<vec4<f32>, ${quads * tile.depth}>;
var<workgroup> right: array<vec4<f32>, ${quads * tile.depth}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z;
  let tileRow = group.y * ${tile.size}u;
  let tileColumn = group.x * ${tile.size}u;
  let tx = lane % ${side}u;
  let ty = lane / ${side}u;
  ${each(tile.perThread, (r) => each(halves, (c) => `var c${r}_${c} = vec4<f32>();`))}
  for (var k = 0u; k < ${depth}u; k += ${tile.depth}u) {
    ${load("left", "readA", "tileRow", !core.transposeA)}
    ${load("right", "readB", "tileColumn", core.transposeB)}
    workgroupBarrier();
    for (var deep = 0u; deep < ${tile.depth}u; deep++) {
      ${each(halves, (h) => `let a${h} = left[deep * ${quads}u + ty + ${(h * quads) / 2}u];\nlet d${h} = right[deep * ${quads}u + tx + ${(h * quads) / 2}u];`)}
      ${each(tile.perThread, (r) => each(halves, (c) => `c${r}_${c} = fma(vec4<f32>(a${r >> 2}[${r & 3}]), d${c}, c${r}_${c});`))}
    }
    workgroupBarrier();
  }
  ${each(halves, (c) => `let column${c} = ${columnOf(c)};`)}
  ${each(tile.perThread, (r) => `{\nlet row = ${rowOf(r)};\n${each(halves, (c) => finish(r, c))}\n}`)}
}`;
  return finishKernel(shader, {
    name: `matMul ${a.batches > 1 ? `${a.batches}×` : ""}${rows}×${columns}×${depth} ${form} tile ${tile.size}`,
    workgroups: [Math.ceil(columns / tile.size), Math.ceil(rows / tile.size), a.batches],
    flops: 2 * size * depth + size * op.steps.length,
    body,
  });
}
