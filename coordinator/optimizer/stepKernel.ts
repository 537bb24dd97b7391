/**
 * @file The loops of an optimizer step in WebAssembly, two to four elements at a time: the bits of the functions that each is
 * said to be, in a third of the time (`npm run bench -- codec`). IEEE 754 has one result for each sum, product, quotient, square
 * root and rounding, so vectors give what JavaScript gives one by one, as long as operations and their order are the same.
 */
import { forEachRun, type AdamWStep } from "../../shared/numerics/adamw.ts";
import { FIRST_LANES, finishChunk, MULTIPLIER_A, MULTIPLIER_B, type HashLanes } from "../../shared/numerics/hash.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { defineFunction, encodeModule, f32x4, f64, f64x2, forRange, i32, local, MAX_WASM_PAGES, v128, WASM_PAGE_BYTES } from "../../shared/wasm/assembler.ts"; // prettier-ignore
import type { Code, Load, Local, Store, WasmFunction } from "../../shared/wasm/assembler.ts";

/** The arrays that a step works on, in the order of their memories' indices. */
const arrays = ["total", "gradient", "master", "m", "v", "published0", "published1", "update"] as const;

/** Each array of the arena has a memory of its own, so that none shares the 4 GiB of a memory with others. */
export type KernelArray = (typeof arrays)[number];

export type KernelMemories = Readonly<Record<KernelArray, WebAssembly.Memory>>;

/** Elements [from, to) of each array; multiples of 4, but for `adamw`. */
export type StepKernel = {
  /** gradient[i] ← fround(scale·total[i]); Σ gradient². Is `roundScaled`, then `squaredNormOf`. */
  readonly mean: (from: number, to: number, scale: number) => number;
  /** One AdamW step on master, m and v with gradient. Is `adamw`. */
  readonly adamw: (options: AdamWStep, layout: ParamLayout, from: number, to: number) => void;
  /**
   * For codec `f32`: update ← u = fround(master − published[current]) ; published[1 − current] ← fround(published[current] + u).
   * Is `subtract`, `encode`, then `decodeApply` on a copy.
   */
  readonly publishFloats: (current: 0 | 1, from: number, to: number) => void;
  /** Is `hashChunk` of the array's bits. Mutates out. */
  readonly hashChunk: (array: "gradient" | "published0" | "published1", from: number, to: number, out: Uint32Array, at: number) => void; // prettier-ignore
};

/**
 * Where an array begins in its memory. All memories begin at multiples of a large power of two; processors find cached lines by
 * some lower bits of the address, and arrays that agreed in all of them would push each other out (measured: six times slower).
 */
function startOf(array: KernelArray): number {
  return 4352 * arrays.indexOf(array);
}

/** Memory for an array of that many bytes, and where it lies in it. @throws RangeError beyond 4 GiB. */
export function arrayMemory(array: KernelArray, bytes: number): { memory: WebAssembly.Memory; start: number } {
  const start = startOf(array);
  const pages = Math.ceil((start + bytes) / WASM_PAGE_BYTES);
  if (pages > MAX_WASM_PAGES) throw new RangeError(`${array} of ${bytes} bytes, a memory has 4 GiB`);
  return { memory: new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }), start };
}

export function createStepKernel(memories: KernelMemories): StepKernel {
  const module = new WebAssembly.Module(encodeModule(arrays, functions()));
  const { exports } = new WebAssembly.Instance(module, { env: memories });
  const call = exports as Readonly<Record<string, (...values: number[]) => unknown>>;
  return {
    mean: (from, to, scale) => call["mean"]!(4 * from, 4 * to, scale) as number,
    adamw(options, layout, from, to) {
      forEachRun(options, layout, from, to, (start, end, scalars) => {
        const { gradientScale, beta1, beta2, keep, correction1, correction2, learningRate, epsilon } = scalars;
        const rest = [gradientScale, beta1, 1 - beta1, beta2, 1 - beta2, keep, correction1, correction2, learningRate, epsilon]; // prettier-ignore
        const even = start + ((end - start) & ~1);
        call["adamw"]!(4 * start, 4 * even, ...rest);
        call["adamwLast"]!(4 * even, 4 * end, ...rest);
      });
    },
    publishFloats: (current, from, to) => void call[`publishFloats${current}`]!(4 * from, 4 * to),
    hashChunk(array, from, to, out, at) {
      const lanes = call[`hash-${array}`]!(4 * from, 4 * to, ...FIRST_LANES) as HashLanes;
      finishChunk(lanes, to - from, out, at);
    },
  };
}

function functions(): WasmFunction[] {
  return [
    mean(),
    adamwRun("adamw", v128.load64Zero, v128.store64),
    adamwRun("adamwLast", v128.load32Zero, v128.store32),
    publishFloats("publishFloats0", "published0", "published1"),
    publishFloats("publishFloats1", "published1", "published0"),
    ...(["gradient", "published0", "published1"] as const).map(hash),
  ];
}

/** An instruction that reads, or writes, a memory, for an array: `at` is the element's byte in an f32 array. */
function read(load: Load, array: KernelArray, at: Code, offset = 0): Code {
  return load(arrays.indexOf(array), at, startOf(array) + offset);
}

function write(store: Store, array: KernelArray, at: Code, value: Code, offset = 0): Code {
  return store(arrays.indexOf(array), at, value, startOf(array) + offset);
}

/** Squares go to four lanes, as those of `squaredNormOf` do. */
function mean(): WasmFunction {
  return defineFunction("mean", { at: "i32", end: "i32", scale: "f64" }, ["f64"], ({ at, end, scale }, variable) => {
    const [factor, low, high] = [variable("v128"), variable("v128"), variable("v128")];
    const [lanes01, lanes23] = [variable("v128"), variable("v128")];
    // Of the f64 array.
    const source = i32.shl(local.get(at), i32.const(1));
    const rounded = (offset: number): Code =>
      f32x4.demoteZero(f64x2.mul(local.get(factor), read(v128.load, "total", source, offset)));
    return [
      ...local.set(factor, f64x2.splat(local.get(scale))),
      ...forRange(at, local.get(end), 16, [
        ...local.set(low, rounded(0)),
        ...local.set(high, rounded(16)),
        ...write(v128.store64, "gradient", local.get(at), local.get(low)),
        ...write(v128.store64, "gradient", local.get(at), local.get(high), 8),
        ...addSquares(lanes01, low),
        ...addSquares(lanes23, high),
      ]),
      ...f64.add(sumOfLanes(lanes01), sumOfLanes(lanes23)),
    ];
  });
}

function addSquares(lanes: Local, pair: Local): Code {
  const x = f64x2.promoteLow(local.get(pair));
  return local.set(lanes, f64x2.add(local.get(lanes), f64x2.mul(x, x)));
}

function sumOfLanes(lanes: Local): Code {
  return f64.add(f64x2.extractLane(local.get(lanes), 0), f64x2.extractLane(local.get(lanes), 1));
}

const adamwParams = {
  at: "i32",
  end: "i32",
  gradientScale: "f64",
  beta1: "f64",
  rest1: "f64",
  beta2: "f64",
  rest2: "f64",
  keep: "f64",
  correction1: "f64",
  correction2: "f64",
  learningRate: "f64",
  epsilon: "f64",
} as const;

/** Pairs; or, with the loads and stores of one float, the last element of a run of odd length, with zeros beside it. */
function adamwRun(name: string, load: Load, store: Store): WasmFunction {
  return defineFunction(name, adamwParams, [], ({ at, end, ...scalars }, variable) => {
    const { add, sub, mul, div, sqrt, promoteLow } = f64x2;
    const both = Object.entries(scalars).map(([key, scalar]) => ({ key, scalar, lanes: variable("v128") }));
    const { gradientScale, beta1, rest1, beta2, rest2, keep, correction1, correction2, learningRate, epsilon } =
      Object.fromEntries(both.map(({ key, lanes }) => [key, local.get(lanes)])) as Record<keyof typeof scalars, Code>;
    const [gradient, first, second] = [variable("v128"), variable("v128"), variable("v128")];
    const g = local.get(gradient);
    const x = (array: KernelArray): Code => promoteLow(read(load, array, local.get(at)));
    const set = (array: KernelArray, value: Code): Code => write(store, array, local.get(at), value);
    // As stored, and read back.
    const [m, v] = [promoteLow(local.get(first)), promoteLow(local.get(second))];
    const step = div(mul(learningRate, mul(m, correction1)), add(sqrt(mul(v, correction2)), epsilon));
    return [
      ...both.flatMap(({ scalar, lanes }) => local.set(lanes, f64x2.splat(local.get(scalar)))),
      ...forRange(at, local.get(end), 8, [
        ...local.set(gradient, mul(x("gradient"), gradientScale)),
        ...local.set(first, f32x4.demoteZero(add(mul(beta1, x("m")), mul(rest1, g)))),
        ...local.set(second, f32x4.demoteZero(add(mul(beta2, x("v")), mul(mul(rest2, g), g)))),
        ...set("m", local.get(first)),
        ...set("v", local.get(second)),
        ...set("master", f32x4.demoteZero(sub(mul(x("master"), keep), step))),
      ]),
    ];
  });
}

function publishFloats(name: string, current: KernelArray, next: KernelArray): WasmFunction {
  return defineFunction(name, { at: "i32", end: "i32" }, [], ({ at, end }, variable) => {
    const [old, u] = [variable("v128"), variable("v128")];
    return forRange(at, local.get(end), 16, [
      ...local.set(old, read(v128.load, current, local.get(at))),
      ...local.set(u, f32x4.sub(read(v128.load, "master", local.get(at)), local.get(old))),
      ...write(v128.store, "update", local.get(at), local.get(u)),
      ...write(v128.store, next, local.get(at), f32x4.add(local.get(old), local.get(u))),
    ]);
  });
}

/** From lanes to lanes. Numbers, not vectors: each lane's next value needs the one before. */
function hash(array: KernelArray): WasmFunction {
  const params = { at: "i32", end: "i32", a0: "i32", b0: "i32", a1: "i32", b1: "i32" } as const;
  const results = ["i32", "i32", "i32", "i32"] as const;
  return defineFunction(`hash-${array}`, params, results, ({ at, end, a0, b0, a1, b1 }) => {
    const word = (index: number): Code => read(i32.load, array, local.get(at), 4 * index);
    const turn = (lane: Local, multiplier: number, rotation: number, own: number, other: number): Code => {
      const mixed = i32.mul(i32.xor(local.get(lane), word(own)), i32.const(multiplier));
      return local.set(lane, i32.add(i32.rotl(mixed, i32.const(rotation)), word(other)));
    };
    return [
      ...forRange(at, local.get(end), 16, [
        ...turn(a0, MULTIPLIER_A, 13, 0, 1),
        ...turn(b0, MULTIPLIER_B, 17, 1, 0),
        ...turn(a1, MULTIPLIER_A, 13, 2, 3),
        ...turn(b1, MULTIPLIER_B, 17, 3, 2),
      ]),
      ...[a0, b0, a1, b1].flatMap((lane) => local.get(lane)),
    ];
  });
}
