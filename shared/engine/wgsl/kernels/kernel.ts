/** @file What every kernel file returns: its text, what it binds, how many workgroups, and what it costs. */
import type { Binding, Shader, ShaderContext } from "../shader.ts";

export type Kernel = {
  /** Ops that ride on it. */
  readonly fused?: readonly string[];
  /** For people: "matMul 768×384×128 NN". */
  readonly name: string;
  readonly wgsl: string;
  readonly bindings: readonly Binding[];
  readonly workgroups: readonly [number, number, number];
  readonly flops: number;
  /** Of memory that the kernel must at least read and write: every tensor once for each. */
  readonly bytes: number;
};

/** WebGPU's own bound on each dimension of a dispatch. */
const MAX_WORKGROUPS = 65_535;

/**
 * `count` workgroups in a row, bent over into a second dimension where there are too many; `at` is their number in WGSL.
 * `unless(number)` ends a workgroup too many, where there can be one: otherwise `count`, and with it the batch size, is not in
 * the text, and other batch sizes have the same pipeline.
 */
export function inARow(count: number): {
  workgroups: [number, number, number];
  at: string;
  unless: (number: string) => string;
} {
  if (count <= MAX_WORKGROUPS) return { workgroups: [count, 1, 1], at: "group.x", unless: () => "" };
  const rows = Math.ceil(count / MAX_WORKGROUPS);
  const columns = Math.ceil(count / rows);
  return {
    workgroups: [columns, rows, 1],
    at: `(group.y * ${columns}u + group.x)`,
    unless: (number) => (columns * rows === count ? "" : `if (${number} >= ${count}u) { return; }`),
  };
}

export function finishKernel(
  shader: Shader,
  { body, ...rest }: Pick<Kernel, "name" | "workgroups" | "flops"> & { body: string },
): Kernel {
  const wgsl = shader.source(body);
  const bindings = shader.bindings();
  const bytes = bindings.reduce((sum, binding) => sum + times(binding) * shader.bytes(binding.value), 0);
  return { ...rest, wgsl, bindings, bytes };
}

/** How values of a workgroup become one. */
export type Reduction = {
  readonly type: string;
  readonly combine: (a: string, b: string) => string;
  /** Changes nothing it is combined with. */
  readonly identity: string;
  /** The value of a whole subgroup. */
  readonly ofSubgroup: (own: string) => string;
};

export function sumOf(type: string): Reduction {
  return {
    type,
    combine: (a, b) => `${a} + ${b}`,
    identity: `${type}()`,
    ofSubgroup: (own) => `subgroupAdd(${own})`,
  };
}

/** Defines WGSL's `reduce(lane, value)`, which may be called again: the same result for all threads, in the same order every time. */
export function defineReduce(shader: Shader, threads: number, reduction: Reduction): void {
  if (threads === 1) {
    shader.define("reduce", `fn reduce(lane: u32, value: ${reduction.type}) -> ${reduction.type} { return value; }`);
    return;
  }
  if (shader.context.subgroups) shader.enable("subgroups");
  shader.define("reduce", (shader.context.subgroups ? bySubgroups : byTree)(threads, reduction));
}

/** A fixed tree in workgroup memory. */
export function byTree(threads: number, { type, combine }: Pick<Reduction, "type" | "combine">): string {
  const levels: string[] = [];
  for (let half = threads / 2; half >= 1; half /= 2) {
    levels.push(
      `  if (lane < ${half}u) { reduced[lane] = ${combine("reduced[lane]", `reduced[lane + ${half}u]`)}; }\n  workgroupBarrier();`,
    );
  }
  return `var<workgroup> reduced: array<${type}, ${threads}>;
fn reduce(lane: u32, value: ${type}) -> ${type} {
  workgroupBarrier();
  reduced[lane] = value;
  workgroupBarrier();
${levels.join("\n")}
  return reduced[0];
}`;
}

/**
 * Each subgroup's value goes to the place of its first thread, then each subgroup combines all places: two barriers instead of one
 * for each halving. Which threads are a subgroup, and how many, WGSL leaves open: threads count their own.
 */
function bySubgroups(threads: number, { type, combine, identity, ofSubgroup }: Reduction): string {
  return `var<workgroup> reduced: array<${type}, ${threads}>;
fn reduce(lane: u32, value: ${type}) -> ${type} {
  let together = subgroupAdd(1u);
  let rank = subgroupExclusiveAdd(1u);
  let own = ${ofSubgroup("value")};
  workgroupBarrier();
  reduced[lane] = select(${identity}, own, rank == 0u);
  workgroupBarrier();
  var all = ${identity};
  for (var first = 0u; first < ${threads}u; first += together) {
    if (first + rank < ${threads}u) { all = ${combine("all", "reduced[first + rank]")}; }
  }
  return ${ofSubgroup("all")};
}`;
}

/** Rows of a workgroup whose threads have a row each: few, so that there are several workgroups. */
const ROWS_ALONE = 8;

/**
 * The head of a kernel that goes over `rows`, each of `work` values (or groups of four): a workgroup for each row, or threads that
 * have a row each. It leaves the row's number in `name`; `lane`, of `threads`, shares the row with the others.
 * {@link defineReduce} goes with it.
 */
export function forEachRow(
  { alone, limits }: ShaderContext,
  { rows, work, name = "row" }: { rows: number; work: number; name?: string },
): { threads: number; workgroups: [number, number, number]; head: string } {
  const together = alone ? ROWS_ALONE : 1;
  const threads = alone ? 1 : threadsFor(work, Math.min(256, limits.maxInvocations));
  const { workgroups, at, unless } = inARow(Math.ceil(rows / together));
  const number = alone ? `${at} * ${together}u + thread` : at;
  const head = `@compute @workgroup_size(${threads * together})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) ${alone ? "thread" : "lane"}: u32) {
  let ${name} = ${number};${alone ? "\n  let lane = 0u;" : ""}
  ${rows % together === 0 ? unless(alone ? at : name) : `if (${name} >= ${rows}u) { return; }`}`;
  return { threads, workgroups, head };
}

/** Threads for rows of this many values (or groups of four): a power of two, no more than there is work for. */
export function threadsFor(work: number, most: number): number {
  let threads = 32;
  while (threads < most && threads < work) threads *= 2;
  return threads;
}

/** `count` pieces of WGSL, one after another. */
export function each(count: number, write: (i: number) => string, separator = "\n    "): string {
  return Array.from({ length: count }, (_, i) => write(i)).join(separator);
}

/** How often a kernel goes over a binding. */
function times({ read, write }: Binding): number {
  return Number(read) + Number(write);
}
