/** @file A kernel's WGSL while it is being written: its bindings, and the elementwise steps that ride on it. */
import { sizeOf } from "../../numerics/layout.ts";
import { GELU_CUBIC, GELU_LINEAR } from "../../model/ops/constants.ts";
import type { TensorSpec } from "../../model/ops/op.ts";
import type { ValueId } from "../graph.ts";
import type { Step } from "./fused.ts";

/** Elements that a thread handles at once: 4 where every extent that matters is a multiple of 4. */
export type Lanes = 1 | 4;

type FloatType = "f32" | "vec4<f32>";
type ElementType = FloatType | "i32" | "u32";

/** What kernels are written against. */
export type ShaderContext = {
  readonly values: readonly TensorSpec[];
  readonly constants: ReadonlyMap<ValueId, number>;
  /** The value whose memory this one uses: itself, or what it overwrites in place. */
  readonly storageOf: (id: ValueId) => ValueId;
  /** True for what no kernel of the step writes: parameters, tokens. */
  readonly isReadOnly: (id: ValueId) => boolean;
  readonly dropout: number;
  readonly limits: ShaderLimits;
  /** Whether sums over a workgroup go by subgroups. */
  readonly subgroups: boolean;
  /** Whether threads work alone where they can. */
  readonly alone: boolean;
  /** Stored as f16; in registers everything is f32. */
  readonly isHalf: (id: ValueId) => boolean;
  /**
   * What gradients are multiplied by, a power of two: f16 has nothing below 6e-8. Those that the step is for
   * (`isGradient`) are divided by it again where they are written, in f32 and therefore exactly.
   */
  readonly lossScale: number;
  readonly isGradient: (id: ValueId) => boolean;
};

export type ShaderLimits = {
  readonly maxBindings: number;
  readonly maxWorkgroupStorageBytes: number;
  readonly maxInvocations: number;
};

export type Binding = { readonly value: ValueId; readonly read: boolean; readonly write: boolean };

/** An element of a value in f32, at an index in WGSL. */
export type Reader = (index: string) => string;

/** The statement that writes an f32 element, or adds to it. */
export type Writer = (index: string, value: string, operator?: "=" | "+=") => string;

/** Two views of one memory with different element types: the caller writes the kernel again with one lane. */
export class LanesConflict extends Error {}

export class Shader {
  readonly context: ShaderContext;
  readonly #bindings: { value: ValueId; storage: ValueId; type: ElementType; read: boolean; write: boolean }[] = [];
  readonly #functions = new Map<string, string>();
  readonly #extensions = new Set<string>();

  constructor(context: ShaderContext) {
    this.context = context;
  }

  /** Gradients of parameters are as large in registers as all others there: multiplied by the loss's factor. */
  read(value: ValueId, type: FloatType): Reader {
    const array = this.bind(value, type);
    if (this.context.isHalf(value)) return (index) => `${type}(${array}[${index}])`;
    const { lossScale, isGradient } = this.context;
    if (lossScale !== 1 && isGradient(value)) return (index) => `(${array}[${index}] * ${literal(lossScale)})`;
    return (index) => `${array}[${index}]`;
  }

  write(value: ValueId, type: FloatType): Writer {
    const array = this.bind(value, type, true);
    const { isHalf, lossScale, isGradient } = this.context;
    const half = type === "f32" ? "f16" : "vec4<f16>";
    const stored = (element: string): string => {
      if (isHalf(value)) return `${half}(${element})`;
      return lossScale !== 1 && isGradient(value) ? `(${element}) * ${literal(1 / lossScale)}` : element;
    };
    return (index, element, operator = "=") => `${array}[${index}] ${operator} ${stored(element)};`;
  }

  /**
   * The name of a value's array in WGSL; what its floats are in memory is for `read` and `write` to know. Values that share memory
   * share a binding: two could not be written.
   */
  bind(value: ValueId, type: ElementType, write = false): string {
    const storage = this.context.storageOf(value);
    const known = this.#bindings.findIndex((binding) => binding.storage === storage);
    if (known >= 0) {
      const binding = this.#bindings[known]!;
      if (binding.type !== type) throw new LanesConflict(`value ${value} as ${type} and ${binding.type}`);
      if (write) binding.write = true;
      else binding.read = true;
      return `b${known}`;
    }
    this.#bindings.push({ value, storage, type, read: !write, write });
    return `b${this.#bindings.length - 1}`;
  }

  /** A helper function of the module, once however often it is asked for. */
  define(name: string, code: string): void {
    this.#functions.set(name, code);
  }

  /** A language extension that the device was asked for. */
  enable(extension: "subgroups" | "f16"): void {
    this.#extensions.add(extension);
  }

  bindings(): Binding[] {
    return this.#bindings.map(({ value, read, write }) => ({ value, read, write }));
  }

  shape(id: ValueId): readonly number[] {
    return this.context.values[id]?.shape ?? [];
  }

  size(id: ValueId): number {
    return sizeOf(this.shape(id));
  }

  bytes(id: ValueId): number {
    return (this.context.isHalf(id) ? 2 : 4) * this.size(id);
  }

  /** The module's text: what pipelines are told apart by, so nothing in it may name a layer. */
  source(body: string): string {
    const { isReadOnly, isHalf } = this.context;
    if (this.#bindings.some(({ value }) => isHalf(value))) this.enable("f16");
    const declarations = this.#bindings.map(({ value, type }, i) => {
      const access = isReadOnly(value) ? "read" : "read_write";
      const element = isHalf(value) ? type.replace("f32", "f16") : type;
      return `@group(0) @binding(${i}) var<storage, ${access}> b${i}: array<${element}>;`;
    });
    const extensions = [...this.#extensions].map((name) => `enable ${name};`);
    return [...extensions, ...declarations, ...this.#functions.values(), body].join("\n");
  }
}

export function typeOf(lanes: Lanes): FloatType {
  return lanes === 4 ? "vec4<f32>" : "f32";
}

/** A number as an f32 literal. */
export function literal(value: number): string {
  if (!Number.isFinite(value)) throw new Error(`${value} has no WGSL literal`);
  return `${Math.fround(value)}f`;
}

/** Where a thread is in the kernel's domain, as WGSL expressions in units of lanes. */
export type Position = {
  readonly lanes: Lanes;
  /** Elements of the domain. */
  readonly size: number;
  /** The flat index. */
  readonly index: string;
  /** The index within a row of `columns` elements, where the kernel knows it. */
  readonly column?: { readonly index: string; readonly columns: number };
};

/**
 * Writes the steps as `let` statements and then the stores. `names` holds the expressions of values that the kernel has computed,
 * and gets those of the steps.
 */
export function writeSteps(
  shader: Shader,
  steps: readonly Step[],
  stores: readonly ValueId[],
  position: Position,
  names: Map<ValueId, string>,
): string[] {
  const lines: string[] = [];
  for (const step of steps) {
    const name = `s${names.size}`;
    lines.push(`let ${name} = ${expression(shader, step, position, names)};`);
    names.set(step.output, name);
  }
  for (const id of stores) {
    lines.push(shader.write(id, typeOf(position.lanes))(position.index, names.get(id) ?? ""));
  }
  return lines;
}

/** Whether the steps can go four elements at a time: nothing is broadcast along the fastest axis but single numbers. */
export function fourLanes(
  { values, constants }: ShaderContext,
  steps: readonly Step[],
  own: ReadonlySet<ValueId>,
  size: number,
): boolean {
  if (size % 4 !== 0) return false;
  const isWhole = (id: ValueId) => sizeOf(values[id]?.shape ?? []) % 4 === 0;
  return steps.every(({ op, inputs, output, attributes }) => {
    const shape = values[output]?.shape ?? [];
    if (op === "ManyhandsEmbedding") return (values[inputs[0] ?? -1]?.shape[1] ?? 0) % 4 === 0;
    if (op === "ManyhandsDropout" && Number(attributes["perSample"]) % 4 !== 0) return false;
    return inputs.every((id, i) => {
      if (own.has(id) || constants.has(id) || (op === "ManyhandsDropout" && i === 1)) return true;
      const from = values[id]?.shape ?? [];
      return sizeOf(from) === 1 || (isWhole(id) && suffixOf(from, shape, sizeOf(shape)));
    });
  });
}

function expression(
  shader: Shader,
  { op, inputs, output, attributes }: Step,
  position: Position,
  names: Map<ValueId, string>,
): string {
  // prettier-ignore
  const [a = -1, b = -1] = inputs;
  const load = (id: ValueId) => operand(shader, id, output, position, names);
  switch (op) {
    case "Add":
      return `${load(a)} + ${load(b)}`;
    case "Multiply":
      return `${load(a)} * ${load(b)}`;
    case "ManyhandsGelu":
      defineGelu(shader, position.lanes);
      return `gelu(${load(a)})`;
    case "ManyhandsGeluGrad":
      defineGeluGrad(shader, position.lanes);
      return `geluGrad(${load(a)}, ${load(b)})`;
    case "ManyhandsDropout": {
      const keys = shader.bind(b, "u32");
      const perSample = Number(attributes["perSample"]);
      const first = position.lanes === 4 ? `(${position.index}) * 4u` : position.index;
      defineDropout(shader);
      const at = (lane: number) => `keep(${keys}[(${first}) / ${perSample}u], (${first}) % ${perSample}u + ${lane}u)`;
      return `${load(a)} * ${position.lanes === 4 ? `vec4<f32>(${[0, 1, 2, 3].map(at).join(", ")})` : at(0)}`;
    }
    case "ManyhandsEmbedding":
      return gather(shader, { table: a, ids: b, attributes }, position);
    default:
      return op satisfies never;
  }
}

function operand(
  shader: Shader,
  id: ValueId,
  output: ValueId,
  { lanes, size, index, column }: Position,
  names: ReadonlyMap<ValueId, string>,
): string {
  // prettier-ignore
  const known = names.get(id);
  if (known !== undefined) return known;
  const constant = shader.context.constants.get(id);
  if (constant !== undefined) return `${typeOf(lanes)}(${literal(constant)})`;
  const count = shader.size(id);
  if (count === size) return shader.read(id, typeOf(lanes))(index);
  if (count === 1) return `${typeOf(lanes)}(${shader.read(id, "f32")("0")})`;
  if (column && count === column.columns) return shader.read(id, typeOf(lanes))(column.index);
  const shape = shader.shape(output);
  if (suffixOf(shader.shape(id), shape, size)) {
    return shader.read(id, typeOf(lanes))(`(${index}) % ${count / lanes}u`);
  }
  if (lanes === 4) throw new LanesConflict(`value ${id} is broadcast along the fastest axis`);
  return shader.read(id, "f32")(strided(shader.shape(id), shape, index));
}

/** Whether `from` repeats as a whole over `to`, as a bias does: leading axes of 1 left out, the rest the last axes of `to`. */
function suffixOf(from: readonly number[], to: readonly number[], size: number): boolean {
  const extents = from.slice(from.findIndex((extent) => extent !== 1));
  // Equal sizes: another name for the same bytes.
  return sizeOf(from) === size || extents.every((extent, i) => extent === to[to.length - extents.length + i]);
}

/** The element of a tensor [from] for flat element `index` of the shape it is broadcast to. */
function strided(from: readonly number[], to: readonly number[], index: string): string {
  const terms: string[] = [];
  let [inner, stride] = [1, 1];
  for (let axis = 1; axis <= to.length; axis++) {
    const extent = to.at(-axis) ?? 1;
    const own = axis <= from.length ? (from.at(-axis) ?? 1) : 1;
    if (own > 1) terms.push(`((${index}) / ${inner}u % ${extent}u) * ${stride}u`);
    inner *= extent;
    stride *= own;
  }
  return terms.join(" + ") || "0u";
}

/** y[n] = table[ids[n]]; for some rows of the table, 0 where the id is none of them. */
function gather(
  shader: Shader,
  { table, ids, attributes }: { table: ValueId; ids: ValueId; attributes: Step["attributes"] },
  { lanes, index }: Position,
): string {
  // prettier-ignore
  const [, width = 1] = shader.shape(table);
  const columns = width / lanes;
  const type = typeOf(lanes);
  const rows = shader.read(table, type);
  const id = `${shader.bind(ids, "i32")}[(${index}) / ${columns}u]`;
  if (attributes["rows"] === undefined) return rows(`u32(${id}) * ${columns}u + (${index}) % ${columns}u`);
  const first = Number(attributes["first"]);
  const count = Number(attributes["rows"]);
  const name = `rowOf${shader.bind(table, type)}`;
  shader.define(
    name,
    `fn ${name}(id: i32, column: u32) -> ${type} {
  if (id < ${first} || id >= ${first + count}) { return ${type}(0.0); }
  return ${rows(`u32(id - ${first}) * ${columns}u + column`)};
}`,
  );
  return `${name}(${id}, (${index}) % ${columns}u)`;
}

/**
 * σ by exp, with its argument clamped: WGSL lets tanh be 1e-5 off, and exp overflow to anything. Beyond ±30, where x² is cut for
 * the slope, σ is 0 or 1 in f32.
 */
function defineGate(shader: Shader, lanes: Lanes): void {
  const T = typeOf(lanes);
  shader.define(
    "gate",
    `fn gate(x: ${T}) -> ${T} {
  let z = clamp(x * (${literal(GELU_LINEAR)} + ${literal(GELU_CUBIC)} * x * x), ${T}(-80.0), ${T}(80.0));
  return ${T}(1.0) / (${T}(1.0) + exp(-z));
}`,
  );
}

function defineGelu(shader: Shader, lanes: Lanes): void {
  const T = typeOf(lanes);
  defineGate(shader, lanes);
  shader.define("gelu", `fn gelu(x: ${T}) -> ${T} { return x * gate(clamp(x, ${T}(-30.0), ${T}(30.0))); }`);
}

function defineGeluGrad(shader: Shader, lanes: Lanes): void {
  const T = typeOf(lanes);
  defineGate(shader, lanes);
  shader.define(
    "geluGrad",
    `fn geluGrad(dy: ${T}, x: ${T}) -> ${T} {
  let c = clamp(x, ${T}(-30.0), ${T}(30.0));
  let s = gate(c);
  return dy * s * (${T}(1.0) + c * (${T}(1.0) - s) * (${literal(GELU_LINEAR)} + ${literal(3 * GELU_CUBIC)} * c * c));
}`,
  );
}

/** shared/numerics/rng.ts in WGSL: number `index` of the stream `key`, compared as dropoutMask.ts compares it. */
export function defineDropout(shader: Shader): void {
  const { dropout } = shader.context;
  shader.define(
    "keep",
    `fn mix32(value: u32) -> u32 {
  var h = (value ^ (value >> 16u)) * 0x85ebca6bu;
  h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
  return h ^ (h >> 16u);
}
fn keep(key: u32, index: u32) -> f32 {
  let random = mix32(mix32(key + index * 0x9e3779b9u) ^ key);
  return select(${literal(1 / (1 - dropout))}, 0.0f, random < ${Math.ceil(dropout * 4294967296)}u);
}`,
  );
}
