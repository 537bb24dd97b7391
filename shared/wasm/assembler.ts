/**
 * @file WebAssembly modules from instructions written as nested calls, operands first as in the text format's folded form:
 * `f64x2.add(local.get(a), local.get(b))`. Has the instructions that this project's kernels need, no more.
 *
 * Source: https://webassembly.github.io/spec/core/binary/ ; several memories in one module are part of version 3.0.
 */

/** The bytes of an instruction with its operands before it. */
export type Code = readonly number[];

export type ValueType = "i32" | "f32" | "f64" | "v128";

const typeBytes: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b };

/** A parameter or a variable of a function. */
export type Local = { readonly index: number };

export type WasmFunction = {
  readonly name: string;
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly locals: readonly ValueType[];
  readonly body: Code;
};

/** 64 KiB: memories have whole pages. */
export const WASM_PAGE_BYTES = 65_536;

/** Addresses have 32 bits. */
export const MAX_WASM_PAGES = 65_536;

const VECTOR = 0xfd;

export type Instruction = (...operands: Code[]) => Code;
export type Load = (memory: number, address: Code, offset?: number) => Code;
export type Store = (memory: number, address: Code, value: Code, offset?: number) => Code;

/** An instruction without immediates: its operands, then its opcode. */
function plain(...opcode: number[]): Instruction {
  return (...operands) => [...operands.flat(), ...opcode];
}

function vector(opcode: number): Instruction {
  return plain(VECTOR, ...unsigned(opcode));
}

function load(opcode: Code, alignment: number): Load {
  return (memory, address, offset = 0) => [...address, ...opcode, ...place(alignment, memory, offset)];
}

function vectorStore(opcode: number, alignment: number, lane: Code = []): Store {
  return (memory, address, value, offset = 0) => [
    ...[...address, ...value, VECTOR, opcode],
    ...[...place(alignment, memory, offset), ...lane],
  ];
}

export const local: { readonly get: (local: Local) => Code; readonly set: (local: Local, value: Code) => Code } = {
  get: ({ index }) => [0x20, ...unsigned(index)],
  set: ({ index }, value) => [...value, 0x21, ...unsigned(index)],
};

export const i32: Readonly<Record<"ltU" | "add" | "mul" | "xor" | "shl" | "rotl", Instruction>> & {
  readonly const: (value: number) => Code;
  readonly load: Load;
} = {
  const: (value) => [0x41, ...signed(value)],
  load: load([0x28], 2),
  ltU: plain(0x49),
  add: plain(0x6a),
  mul: plain(0x6c),
  xor: plain(0x73),
  shl: plain(0x74),
  rotl: plain(0x77),
};

export const f32: Readonly<Record<"add" | "mul", Instruction>> = { add: plain(0x92), mul: plain(0x94) };

export const f64: Readonly<Record<"add", Instruction>> = { add: plain(0xa0) };

export const v128: {
  readonly zero: Code;
  readonly load: Load;
  /** The same quarter in all four. */
  readonly load32Splat: Load;
  /** The lower half; the upper one is zero. */
  readonly load64Zero: Load;
  /** The lowest quarter; the others are zero. */
  readonly load32Zero: Load;
  readonly store: Store;
  /** The lower half. */
  readonly store64: Store;
  /** The lowest quarter. */
  readonly store32: Store;
} = {
  zero: [VECTOR, 0x0c, ...Array<number>(16).fill(0)],
  load: load([VECTOR, 0x00], 4),
  load32Splat: load([VECTOR, 0x09], 2),
  load64Zero: load([VECTOR, 0x5d], 3),
  load32Zero: load([VECTOR, 0x5c], 2),
  store: vectorStore(0x0b, 4),
  store64: vectorStore(0x5b, 3, [0]),
  store32: vectorStore(0x5a, 2, [0]),
};

type FloatLanes = "splat" | "add" | "sub" | "mul" | "div" | "min" | "max" | "relaxedMadd";

/** `demoteZero`: two f64 rounded to the lower two lanes. `relaxedMadd`: a·b + c, rounded once where the processor has that. */
export const f32x4: Readonly<Record<FloatLanes | "demoteZero", Instruction>> & {
  readonly extractLane: (value: Code, lane: number) => Code;
} = {
  splat: vector(0x13),
  extractLane: (value, lane) => [...value, VECTOR, 0x1f, lane],
  add: vector(0xe4),
  sub: vector(0xe5),
  mul: vector(0xe6),
  div: vector(0xe7),
  min: vector(0xe8),
  max: vector(0xe9),
  demoteZero: vector(0x5e),
  relaxedMadd: vector(0x105),
};

export const i32x4: Readonly<Record<"shl" | "add", Instruction>> = {
  shl: vector(0xab),
  add: vector(0xae),
};

/** `promoteLow`: the lower two f32 lanes, exactly. */
export const f64x2: Readonly<Record<"splat" | "sqrt" | "add" | "sub" | "mul" | "div" | "promoteLow", Instruction>> & {
  readonly extractLane: (value: Code, lane: 0 | 1) => Code;
} = {
  splat: vector(0x14),
  extractLane: (value, lane) => [...value, VECTOR, 0x21, lane],
  promoteLow: vector(0x5f),
  sqrt: vector(0xef),
  add: vector(0xf0),
  sub: vector(0xf1),
  mul: vector(0xf2),
  div: vector(0xf3),
};

/** Where in which memory: bit 6 of the alignment announces the memory's index. */
function place(alignment: number, memory: number, offset: number): Code {
  return [0x40 | alignment, ...unsigned(memory), ...unsigned(offset)];
}

/** while (at < end, unsigned) { body; at += step } */
export function forRange(at: Local, end: Code, step: number, body: Code): Code {
  const [block, loop, noResult, endBlock, branch, branchIf, not] = [0x02, 0x03, 0x40, 0x0b, 0x0c, 0x0d, 0x45];
  return [
    ...[block, noResult, loop, noResult],
    ...[...i32.ltU(local.get(at), end), not, branchIf, 1],
    ...body,
    ...local.set(at, i32.add(local.get(at), i32.const(step))),
    ...[branch, 0, endBlock, endBlock],
  ];
}

/**
 * A function: `write` gets its parameters and says what it does; further variables are made with `variable`.
 */
export function defineFunction<const P extends Readonly<Record<string, ValueType>>>(
  name: string,
  params: P,
  results: readonly ValueType[],
  write: (params: { readonly [K in keyof P]: Local }, variable: (type: ValueType) => Local) => Code,
): WasmFunction {
  const types = Object.values(params);
  const locals: ValueType[] = [];
  const named = Object.fromEntries(Object.keys(params).map((key, index) => [key, { index }]));
  const variable = (type: ValueType): Local => ({ index: types.length + locals.push(type) - 1 });
  const body = write(named as { [K in keyof P]: Local }, variable);
  return { name, params: types, results, locals, body };
}

/**
 * The module's bytes. `memories`: names of shared memories that the instance is given as `env.<name>`, in the order of their
 * indices; each of any size up to 4 GiB. Functions are exported under their names.
 */
export function encodeModule(memories: readonly string[], functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const sharedLimits = [0x03, ...unsigned(0), ...unsigned(65_536)];
  const valueTypes = (types: readonly ValueType[]): Code => list(types.map((type) => [typeBytes[type]]));
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(functions.map(({ params, results }) => [0x60, ...valueTypes(params), ...valueTypes(results)]))),
    ...section(2, list(memories.map((name) => [...text("env"), ...text(name), 0x02, ...sharedLimits]))),
    ...section(3, list(functions.map((_, index) => unsigned(index)))),
    ...section(7, list(functions.map(({ name }, index) => [...text(name), 0x00, ...unsigned(index)]))),
    ...section(
      10,
      list(
        functions.map(({ locals, body }) => {
          const code = [...list(locals.map((type) => [1, typeBytes[type]])), ...body, 0x0b];
          return [...unsigned(code.length), ...code];
        }),
      ),
    ),
  ]);
}

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

/** ASCII. */
function text(name: string): Code {
  return list(Array.from(name, (letter) => [letter.charCodeAt(0)]));
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

/** LEB128, 32 bits. */
function signed(value: number): Code {
  const int = value | 0;
  return int >= -0x40 && int < 0x40 ? [int & 0x7f] : [(int & 0x7f) | 0x80, ...signed(int >> 7)];
}
