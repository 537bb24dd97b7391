/**
 * @file Lowers a graph to ONNX for ONNX Runtime's CPU kernels. Here: the driver and the plain ops; the named ops are in
 * onnxOps.ts. Sums ride on products where Gemm can add (a bias, the residual stream), so such products wait for their sum.
 */
import type { Graph, GraphNode, ValueId } from "./graph.ts";
import { divisorUpTo, Lowering, product, type Rule } from "./onnxLowering.ts";
import { namedRules } from "./onnxOps.ts";
import type { OnnxGraph } from "./onnxProto.ts";

/** The ONNX graph computing the same outputs, under the same names. @throws Error for an op without a rule. */
export function lowerToOnnx(graph: Graph): OnnxGraph {
  const lowering = new Lowering(graph, { ...plainRules, ...namedRules }, waits);
  for (const node of graph.nodes) lowering.lower(node);
  return lowering.finish();
}

/** Ops that wait for the sum they are part of, when that is their only use. */
const waits: ReadonlySet<string> = new Set([
  "BatchMatMul",
  "ManyhandsLayerNorm",
  "ManyhandsLayerNormGrad",
  "ManyhandsEmbeddingGrad",
]);

const plainRules: Readonly<Record<string, Rule>> = {
  Add: ({ inputs, outputs: [output = -1] }, lowering) => {
    const [a = -1, b = -1] = inputs;
    if (addToProduct(a, b, output, lowering) || addToProduct(b, a, output, lowering)) return;
    const names = [lowering.name(a), lowering.name(b)];
    lowering.emit("Add", names, { outputs: [lowering.target(output)] });
  },
  Multiply: ({ inputs, outputs: [output = -1] }, lowering) => {
    const names = inputs.map((id) => lowering.name(id));
    lowering.emit("Mul", names, { outputs: [lowering.target(output)] });
  },
  Reshape: ({ inputs: [x = -1], outputs: [output = -1] }, lowering) => {
    const source = lowering.name(x);
    lowering.reshape(source, lowering.shape(output), { outputs: [lowering.target(output)] });
  },
  Sum: ({ inputs: [x = -1], outputs: [output = -1], attributes }, lowering) => {
    const axes = attributes["axis"] as readonly number[];
    const source = lowering.name(x);
    lowering.emit("ReduceSum", [source, lowering.constant("int64", [axes.length], axes)], {
      attributes: { keepdims: attributes["keepDims"] === true ? 1 : 0 },
      outputs: [lowering.target(output)],
    });
  },
  BatchMatMul: (node, lowering) => {
    const [output = -1] = node.outputs;
    const [a = -1, b = -1] = node.inputs;
    const { transposeA, transposeB } = node.attributes;
    if (transposeA === true && transposeB !== true && isWide(a, b, lowering)) {
      // (dyᵀ·x)ᵀ, as factors() would have it: here dy is the narrower one.
      const [left, right] = [lowering.name(a), lowering.name(b)];
      const transposed = lowering.emit("MatMul", [transpose(lowering, right), left]);
      transpose(lowering, transposed, lowering.target(output));
      return;
    }
    const { names, transA, transB } = factors(node, lowering);
    inPanels(node, [], output, { names, transA, lowering }, ([left = "", right = ""], written) =>
      product(lowering, [left, right], { transA, transB, output: written }),
    );
  },
};

/** Rows of a product that are computed at once: with more, its first factor and its output do not stay in the cache (3 %). */
const PANEL_ROWS = 512;

/**
 * A product of matrices, in panels of rows if it is long. `compute` gets the names of the factors and addends, or a panel of the
 * first factor and of each addend, and the name to write to.
 */
function inPanels(
  { inputs: [a = -1], attributes }: GraphNode,
  addends: readonly string[],
  output: ValueId,
  { names: [left, right], transA, lowering }: { names: [string, string]; transA: boolean; lowering: Lowering },
  compute: (operands: readonly string[], written: string) => string,
): void {
  const [rows = 0, columns = 0, ...more] = lowering.shape(output);
  const panel = divisorUpTo(rows, PANEL_ROWS);
  // Panels of few rows, where their number has no better divisor, would be slower than none.
  if (transA || more.length > 0 || panel === rows || panel < PANEL_ROWS / 4) {
    compute([left, right, ...addends], lowering.target(output));
    return;
  }
  // factors() has transposed it.
  const inner = lowering.shape(a).at(attributes["transposeA"] === true ? 0 : 1) ?? 0;
  const slices = [{ name: left, slice: [panel, inner] }, ...addends.map((name) => ({ name, slice: [panel, columns] }))];
  const [stacked = ""] = lowering.scan(rows / panel, slices, [[panel, columns]], ([left = "", ...addends]) => [
    compute([left, right, ...addends], lowering.fresh()),
  ]);
  lowering.reshape(stacked, [rows, columns], { outputs: [lowering.target(output)] });
}

/**
 * A product's operands. The first factor of a weight's gradient, xᵀ·dy, is transposed by a node of its own where it is the
 * narrower one: MLAS transposes it again for every 128 columns of dy, which costs a tenth of the product.
 */
function factors(
  { inputs: [a = -1, b = -1], attributes }: GraphNode,
  lowering: Lowering,
): { names: [string, string]; transA: boolean; transB: boolean } {
  const transA = attributes["transposeA"] === true;
  const transB = attributes["transposeB"] === true;
  const [left, right] = [lowering.name(a), lowering.name(b)];
  if (!transA || isWide(a, b, lowering)) return { names: [left, right], transA, transB };
  return { names: [transpose(lowering, left), right], transA: false, transB };
}

function isWide(a: ValueId, b: ValueId, lowering: Lowering): boolean {
  return (lowering.shape(a).at(-1) ?? 0) > (lowering.shape(b).at(-1) ?? 0);
}

function transpose(lowering: Lowering, x: string, output: string = lowering.fresh()): string {
  return lowering.emit("Transpose", [x], { attributes: { perm: [1, 0] }, outputs: [output] });
}

/** Lowers `sum = waiting + addend` as one node. False when `waiting` is not waiting or cannot take the addend. */
function addToProduct(waiting: ValueId, addend: ValueId, sum: ValueId, lowering: Lowering): boolean {
  const shape = lowering.shape(sum);
  const extents = lowering.shape(addend);
  if (shape.length !== 2 || lowering.shape(waiting).join() !== shape.join()) return false;
  const isBias = extents.length === 1 && extents[0] === shape[1];
  if (isBias) {
    const norm = lowering.takeWaiting(waiting, "ManyhandsLayerNorm");
    if (norm) {
      namedRules[norm.op]?.({ ...norm, inputs: [...norm.inputs, addend], outputs: [sum] }, lowering);
      return true;
    }
  }
  if (!isBias && extents.join() !== shape.join()) return false;
  const matMul = lowering.takeWaiting(waiting, "BatchMatMul");
  if (matMul) {
    const { names, transA, transB } = factors(matMul, lowering);
    const attributes = { transA: Number(transA), transB: Number(transB) };
    const emit = (operands: readonly string[], written: string): string =>
      lowering.emit("Gemm", operands, { attributes, outputs: [written] });
    const added = lowering.name(addend);
    // A bias is no matrix to cut up.
    if (isBias) emit([...names, added], lowering.target(sum));
    else inPanels(matMul, [added], sum, { names, transA, lowering }, emit);
    return true;
  }
  const other =
    lowering.takeWaiting(waiting, "ManyhandsEmbeddingGrad") ?? lowering.takeWaiting(waiting, "ManyhandsLayerNormGrad");
  if (!other) return false;
  const outputs = [sum, ...other.outputs.slice(1)];
  namedRules[other.op]?.({ ...other, inputs: [...other.inputs, addend], outputs }, lowering);
  return true;
}
