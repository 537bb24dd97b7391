/**
 * @file The gradients of GELU and layer norm as chains of elementwise ONNX nodes, the fewest passes over memory that ONNX
 * Runtime's kernels allow, run chunk by chunk in the cache. BatchNormalization stands in for the missing fused a·x + b.
 */
import { GELU_CUBIC, GELU_LINEAR } from "../model/ops/constants.ts";
import type { GraphNode } from "./graph.ts";
import { GELU_WITH_SLOPE, KERNELS, LANES, LAYER_NORM_GRAD } from "./onnxKernels.ts";
import { divisorUpTo, type Lowering } from "./onnxLowering.ts";
import { lowerProductTimes } from "./onnxProducts.ts";

/** Elements of a chunk: 128 KiB, so that the four or so alive at once fit a 512 KiB second-level cache. */
const CHUNK_ELEMENTS = 32 * 1024;

/**
 * y = x·s with s = σ(2u), 2u = x·(LINEAR + CUBIC·x²). Where the graph has the gradient too, y′ = s·(1 + (x − y)·(2u)′) comes
 * along while x is in the cache, in the place of x, which nobody needs again.
 */
export function lowerGelu({ inputs: [x = -1], outputs: [y = -1] }: GraphNode, lowering: Lowering): void {
  const name = lowering.name(x);
  const differentiated = lowering.graph.nodes.some(({ op, inputs }) => op === GELU_GRAD && inputs[1] === x);
  if (!differentiated) {
    lowering.emit("Gelu", [name], { attributes: { approximate: "tanh" }, outputs: [lowering.target(y)] });
    return;
  }
  const shape = lowering.shape(x);
  const size = shape.reduce((product, extent) => product * extent, 1);
  if (size >= lowering.kernelsFrom && size % LANES === 0) {
    const outputs = [lowering.target(y), lowering.share(`gelu slope ${x}`, () => lowering.fresh())];
    lowering.emit(GELU_WITH_SLOPE, [name], { domain: KERNELS, outputs });
    return;
  }
  const chunk = divisorUpTo(size, CHUNK_ELEMENTS);
  const slice = [1, 1, chunk];
  const [stackedY = "", slope = ""] = lowering.scan(size / chunk, [{ name, slice }], [slice, slice], ([x = ""]) => {
    const mul = (a: string, b: string) => lowering.emit("Mul", [a, b]);
    const square = mul(x, x);
    const gate = lowering.emit("Sigmoid", [mul(affine(lowering, square, GELU_CUBIC, GELU_LINEAR), x)]);
    const y = mul(x, gate);
    const inner = mul(lowering.emit("Sub", [x, y]), affine(lowering, square, 3 * GELU_CUBIC, GELU_LINEAR));
    return [y, mul(affine(lowering, inner, 1, 1), gate)];
  });
  lowering.reshape(stackedY, shape, { outputs: [lowering.target(y)] });
  lowering.share(`gelu slope ${x}`, () => lowering.reshape(slope, shape));
}

export function lowerGeluGrad({ inputs: [dy = -1, x = -1], outputs: [dx = -1] }: GraphNode, lowering: Lowering): void {
  const slope = lowering.share(`gelu slope ${x}`, unseen);
  const product = lowering.takeWaiting(dy, "BatchMatMul");
  if (product) {
    lowerProductTimes(product, slope, dx, lowering);
    return;
  }
  lowering.emit("Mul", [lowering.name(dy), slope], { outputs: [lowering.target(dx)] });
}

const GELU_GRAD = "ManyhandsGeluGrad";

/**
 * dx = (u − mean(u) − x̂·mean(u∘x̂))/σ (+ a fourth input), u = dy∘g; dg = Σ_rows dy∘x̂. The means along a row are products
 * with −g/d.
 */
export function lowerLayerNormGrad(
  { inputs: [dy = -1, x = -1, gainId = -1, addend], outputs: [dx = -1, dGain = -1] }: GraphNode,
  lowering: Lowering,
): void {
  const [rows = 0, width = 0] = lowering.shape(x);
  const gain = lowering.name(gainId);
  const matrices = [dy, x, ...(addend === undefined ? [] : [addend])].map((id) => lowering.name(id));
  const statistics = lowering.share(`statistics ${x}`, (): string[] => unseen());
  if (rows * width >= lowering.kernelsFrom && width % LANES === 0) {
    const [dy = "", x = "", ...rest] = matrices;
    const outputs = [lowering.target(dx), lowering.target(dGain)];
    lowering.emit(LAYER_NORM_GRAD, [dy, x, gain, ...statistics, ...rest], { domain: KERNELS, outputs });
    return;
  }
  const negativeMean = lowering.emit("Mul", [lowering.reshape(gain, [width, 1]), lowering.scalar(-1 / width)]);
  const chunk = divisorUpTo(rows, CHUNK_ELEMENTS / width);
  const matrix = [1, chunk, width];
  const inputs = [
    ...matrices.map((name) => ({ name, slice: matrix })),
    ...statistics.map((name) => ({ name, slice: [chunk] })),
  ];
  const [stackedDx = "", parts = ""] = lowering.scan(rows / chunk, inputs, [matrix, [1, 1, width]], (slices) => {
    const [dy = "", x = "", ...rest] = slices;
    const [inverseDeviation = "", mean = "", addend] = rest.toReversed();
    const normalised = rowAffine(lowering, x, { rows: chunk, scale: inverseDeviation, mean });
    const weighted = lowering.emit("Mul", [dy, normalised]);
    // The sum over rows as a product with ones: ReduceSum has no fast path for this one and takes several times as long.
    const part = lowering.emit("MatMul", [filled(lowering, [1, chunk], 1), weighted]); // [1, 1, d]
    const rowMean = (a: string) => lowering.reshape(lowering.emit("MatMul", [a, negativeMean]), [chunk]);
    const correction = rowAffine(lowering, normalised, { rows: chunk, scale: rowMean(weighted), bias: rowMean(dy) });
    const sum = lowering.emit("Add", [lowering.emit("Mul", [dy, gain]), correction]);
    const scaled = lowering.emit("Mul", [sum, lowering.reshape(inverseDeviation, [chunk, 1])]);
    return [addend === undefined ? scaled : lowering.emit("Add", [scaled, addend]), part];
  });
  lowering.reshape(stackedDx, [rows, width], { outputs: [lowering.target(dx)] });
  const total = lowering.reshape(parts, [rows / chunk, width]);
  lowering.emit("ReduceSum", [total, lowering.constant("int64", [1], [0])], {
    attributes: { keepdims: 0 },
    outputs: [lowering.target(dGain)],
  });
}

/** scale·x + bias in one pass; x is [1, 1, E]. */
function affine(lowering: Lowering, x: string, scale: number, bias: number): string {
  const one = (value: number) => lowering.constant("float32", [1], [value]);
  return lowering.emit("BatchNormalization", [x, one(scale), one(bias), one(0), one(1)], NO_EPSILON);
}

/** scale·(x − mean) + bias with numbers of each row's own, in one pass; x is [1, rows, d], the others [rows]. */
function rowAffine(
  lowering: Lowering,
  x: string,
  { rows, scale, mean, bias }: { rows: number; scale: string; mean?: string; bias?: string },
): string {
  const zeros = filled(lowering, [rows], 0);
  return lowering.emit(
    "BatchNormalization",
    [x, scale, bias ?? zeros, mean ?? zeros, filled(lowering, [rows], 1)],
    NO_EPSILON,
  );
}

/** The variance given is exactly 1. */
const NO_EPSILON = { attributes: { epsilon: { float: 0 } } };

function filled(lowering: Lowering, shape: readonly number[], value: number): string {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return lowering.share(`${shape.join("×")} × ${value}`, () =>
    lowering.constant("float32", shape, Array<number>(size).fill(value)),
  );
}

function unseen(): never {
  throw new Error("a gradient was lowered before the op it belongs to");
}
