/**
 * @file Kernels of our own between ONNX Runtime's: GELU with its slope and the gradient of layer norm, each one sweep over memory where
 * ONNX has no op and a chain of its elementwise nodes takes ten. WebAssembly on four lanes, in the memory that their values lie in.
 */
import { GELU_CUBIC, GELU_LINEAR } from "../model/ops/constants.ts";
import {
  type Code, defineFunction, encodeModule, f32, f32x4, forRange, i32, i32x4, local, type Local, v128, type ValueType, type WasmFunction,
} from "../wasm/assembler.ts"; // prettier-ignore

/** The domain of nodes that are not ONNX Runtime's. */
export const KERNELS = "manyhands";

/** Inputs x; outputs y = gelu(x) and gelu′(x). */
export const GELU_WITH_SLOPE = "GeluWithSlope";

/** Inputs dy [N, d], x [N, d], gain [d], mean [N], 1/σ [N] and, or not, what to add to dx; outputs dx, dGain. */
export const LAYER_NORM_GRAD = "LayerNormGrad";

/** Elements that are computed at once: values have a multiple of this. */
export const LANES = 4;

/** Bytes at the beginning of the memory that kernels use themselves. */
export const OWN_BYTES = 4096;

/** Addresses are bytes in the memory. */
export type Kernels = {
  readonly geluWithSlope: (x: number, elements: number, y: number, slope: number) => void;
  readonly layerNormGrad: (
    places: Readonly<Record<"dy" | "x" | "gain" | "mean" | "inverseDeviation" | "dx" | "dGain", number>> & {
      readonly addend: number | undefined;
      /** Room for d elements. */
      readonly sums: number;
    },
    rows: number,
    width: number,
  ) => void;
};

export function createKernels(memory: WebAssembly.Memory): Kernels {
  const module = new WebAssembly.Module(encodeModule(["memory"], [gelu(), layerNormGrad(false), layerNormGrad(true)]));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const call = exports as Readonly<Record<string, (...values: number[]) => void>>;
  const words = new Float32Array(memory.buffer, 0, OWN_BYTES / 4);
  for (const [i, value] of CONSTANTS.entries()) words.fill(value, LANES * i, LANES * (i + 1));
  return {
    geluWithSlope: (x, elements, y, slope) => call["gelu"]!(x, x + 4 * elements, y, slope),
    layerNormGrad: ({ dy, x, gain, mean, inverseDeviation, addend, dx, dGain, sums }, rows, width) => {
      const zeros = new Float32Array(memory.buffer, dGain, width);
      const partial = new Float32Array(memory.buffer, sums, width);
      zeros.fill(0);
      for (let row = 0; row < rows; row += PART_ROWS) {
        const count = Math.min(PART_ROWS, rows - row);
        const at = (base: number): number => base + 4 * width * row;
        const statistics = [mean + 4 * row, mean + 4 * (row + count), inverseDeviation + 4 * row];
        partial.fill(0);
        const name = addend === undefined ? "layerNormGrad" : "layerNormGradAdded";
        call[name]!(at(dy), at(x), at(dx), gain, sums, ...statistics, 4 * width, -1 / width, at(addend ?? 0));
        for (let i = 0; i < width; i++) zeros[i]! += partial[i]!;
      }
    },
  };
}

/** Rows whose dg are summed on their own: few enough for f32. */
const PART_ROWS = 64;

/** 2ʳ on [−½, ½] by least squares, relative error 7.5e-8; highest power first. */
const EXP2 = [0.00132765, 0.00967554, 0.05550713, 0.2402212, 0.69314697, 1.00000007];

/** Added to a number below 2²², leaves its nearest integer in the lowest bits. */
const ROUNDING = 1.5 * 2 ** 23;

/** Of exponents that f32 can have. */
const MAX_EXPONENT = 126;

/** 1 in f32; its bits are the exponent's bias. */
const ONE = 1;

const CONSTANTS = [
  ...EXP2,
  ROUNDING,
  MAX_EXPONENT,
  -MAX_EXPONENT,
  ONE,
  -GELU_CUBIC * Math.LOG2E,
  -GELU_LINEAR * Math.LOG2E,
  3 * GELU_CUBIC,
  GELU_LINEAR,
];

const { add, sub, mul, div, min, max, relaxedMadd } = f32x4;

/** Constants in variables; V8 would build a literal anew in every turn, so they are read from memory. */
function constants(variable: (type: ValueType) => Local): { of: (value: number) => Code; load: Code } {
  const locals = new Map(CONSTANTS.map((value) => [value, variable("v128")]));
  return {
    of: (value) => local.get(locals.get(value)!),
    load: [...locals].flatMap(([value, to]) => local.set(to, v128.load(0, i32.const(16 * CONSTANTS.indexOf(value))))),
  };
}

/** s = σ(2u) = 1/(1 + 2^z), z = −2u·log₂e = x·(LINEAR + CUBIC·x²)·(−log₂e); y = x·s; y′ = s·(1 + y·2^z·(2u)′). */
function gelu(): WasmFunction {
  const params = { at: "i32", end: "i32", y: "i32", slope: "i32" } as const;
  return defineFunction("gelu", params, [], ({ at, end, y, slope }, variable) => {
    const [x, square, z, rounded, r, e, s, out] = Array.from({ length: 8 }, () => variable("v128")) as [Local, Local, Local, Local, Local, Local, Local, Local]; // prettier-ignore
    const { of, load } = constants(variable);
    const { get, set } = local;
    const [highest = 0, ...lower] = EXP2;
    const power = lower.reduce((sum, coefficient) => relaxedMadd(sum, get(r), of(coefficient)), of(highest));
    const scale = i32x4.add(i32x4.shl(get(rounded), i32.const(23)), of(ONE));
    const exponent = relaxedMadd(get(square), of(-GELU_CUBIC * Math.LOG2E), of(-GELU_LINEAR * Math.LOG2E));
    const inner = relaxedMadd(get(square), of(3 * GELU_CUBIC), of(GELU_LINEAR));
    return [
      ...load,
      ...forRange(at, get(end), 16, [
        ...set(x, v128.load(0, get(at))),
        ...set(square, mul(get(x), get(x))),
        ...set(z, max(min(mul(get(x), exponent), of(MAX_EXPONENT)), of(-MAX_EXPONENT))),
        ...set(rounded, add(get(z), of(ROUNDING))),
        ...set(r, sub(get(z), sub(get(rounded), of(ROUNDING)))),
        ...set(e, mul(power, scale)),
        ...set(s, div(of(ONE), add(of(ONE), get(e)))),
        ...set(out, mul(get(x), get(s))),
        ...v128.store(0, get(y), get(out)),
        ...v128.store(0, get(slope), mul(get(s), relaxedMadd(mul(get(out), get(e)), inner, of(ONE)))),
        ...set(y, i32.add(get(y), i32.const(16))),
        ...set(slope, i32.add(get(slope), i32.const(16))),
      ]),
    ];
  });
}

/**
 * dx = (u − mean(u) − x̂·mean(u∘x̂))/σ (+ addend), u = dy∘g; part += Σ_rows dy∘x̂. Rows of `bytes`; `statistic` goes over the means
 * of the rows up to `last`.
 */
function layerNormGrad(adds: boolean): WasmFunction {
  const params = {
    dy: "i32", x: "i32", dx: "i32", gain: "i32", part: "i32", statistic: "i32", last: "i32", deviation: "i32", bytes: "i32",
    negativeShare: "f32", addend: "i32",
  } as const; // prettier-ignore
  const name = adds ? "layerNormGradAdded" : "layerNormGrad";
  return defineFunction(name, params, [], (given, variable) => {
    const { dy, x, dx, gain, part, statistic, last, deviation, bytes, negativeShare, addend } = given;
    const [at, mean, inverse, normalised, gradient, weighted, sum, products] =
      [variable("i32"), ...Array.from({ length: 7 }, () => variable("v128"))] as [Local, Local, Local, Local, Local, Local, Local, Local]; // prettier-ignore
    const { get, set } = local;
    const beside = (base: Local): Code => i32.add(get(base), get(at));
    const along = (body: Code): Code => [...set(at, i32.const(0)), ...forRange(at, get(bytes), 16, body)];
    const normalise = set(normalised, mul(sub(v128.load(0, beside(x)), get(mean)), get(inverse)));
    const lanes = (vector: Local): Code =>
      [1, 2, 3].reduce((total, lane) => f32.add(total, f32x4.extractLane(get(vector), lane)), f32x4.extractLane(get(vector), 0)); // prettier-ignore
    /** −mean, in each lane. */
    const share = (vector: Local): Code => set(vector, f32x4.splat(f32.mul(lanes(vector), get(negativeShare))));
    const scaled = mul(get(inverse), add(add(mul(v128.load(0, beside(dy)), v128.load(0, beside(gain))), get(sum)), mul(get(normalised), get(products)))); // prettier-ignore
    const next = (pointer: Local): Code => set(pointer, i32.add(get(pointer), get(bytes)));
    return forRange(statistic, get(last), 4, [
      ...set(mean, v128.load32Splat(0, get(statistic))),
      ...set(inverse, v128.load32Splat(0, get(deviation))),
      ...set(sum, v128.zero),
      ...set(products, v128.zero),
      ...along([
        ...normalise,
        ...set(gradient, v128.load(0, beside(dy))),
        ...v128.store(0, beside(part), add(v128.load(0, beside(part)), mul(get(gradient), get(normalised)))),
        ...set(weighted, mul(get(gradient), v128.load(0, beside(gain)))),
        ...set(sum, add(get(sum), get(weighted))),
        ...set(products, add(get(products), mul(get(weighted), get(normalised)))),
      ]),
      ...share(sum),
      ...share(products),
      ...along([...normalise, ...v128.store(0, beside(dx), adds ? add(scaled, v128.load(0, beside(addend))) : scaled)]),
      ...[dy, x, dx, addend].flatMap(next),
      ...set(deviation, i32.add(get(deviation), i32.const(4))),
    ]);
  });
}
