/** @file Products of matrices as ONNX nodes, with what is added to them or multiplied with while they are in the cache. */
import type { GraphNode, ValueId } from "./graph.ts";
import { divisorUpTo, type Lowering, product } from "./onnxLowering.ts";

/** Rows of a product that are computed at once: with more, its first factor and its output do not stay in the cache. */
const PANEL_ROWS = 512;

export function lowerProduct(node: GraphNode, lowering: Lowering): void {
  const { inputs: [a = -1, b = -1], outputs: [output = -1], attributes } = node; // prettier-ignore
  if (attributes["transposeA"] === true && attributes["transposeB"] !== true && isWide(a, b, lowering)) {
    // (dyᵀ·x)ᵀ, as operandsOf() would have it: here dy is the narrower one.
    const [left, right] = [lowering.name(a), lowering.name(b)];
    const transposed = lowering.emit("MatMul", [transpose(lowering, right), left]);
    transpose(lowering, transposed, lowering.target(output));
    return;
  }
  const operands = operandsOf(node, lowering);
  const { transA, transB } = operands;
  inPanels(operands, [], output, lowering, ([left = "", right = ""], written) =>
    product(lowering, [left, right], { transA, transB, output: written }),
  );
}

/** sum = a·b + addend: a bias or a matrix of the product's shape. */
export function lowerProductPlus(node: GraphNode, addend: ValueId, sum: ValueId, lowering: Lowering): void {
  const operands = operandsOf(node, lowering);
  const { left, right, transA, transB } = operands;
  const attributes = { transA: Number(transA), transB: Number(transB) };
  const emit = (operands: readonly string[], written: string): string =>
    lowering.emit("Gemm", operands, { attributes, outputs: [written] });
  const added = lowering.name(addend);
  // A bias is no matrix to cut up.
  if (lowering.shape(addend).length === 1) emit([left, right, added], lowering.target(sum));
  else inPanels(operands, [added], sum, lowering, emit);
}

/** output = (a·b) ∘ factor; `factor`: the name of a matrix of the product's shape. */
export function lowerProductTimes(node: GraphNode, factor: string, output: ValueId, lowering: Lowering): void {
  const operands = operandsOf(node, lowering);
  const { transA, transB } = operands;
  inPanels(operands, [factor], output, lowering, ([left = "", right = "", factor = ""], written) =>
    lowering.emit("Mul", [product(lowering, [left, right], { transA, transB }), factor], { outputs: [written] }),
  );
}

type Operands = {
  readonly left: string;
  readonly right: string;
  readonly transA: boolean;
  readonly transB: boolean;
  /** Columns of the first one, as it is read. */
  readonly inner: number;
};

/**
 * A product's operands. The first factor of a weight's gradient, xᵀ·dy, is transposed by a node of its own where it is the
 * narrower one: MLAS transposes it again for every 128 columns of dy, which costs a tenth of the product.
 */
function operandsOf({ inputs: [a = -1, b = -1], attributes }: GraphNode, lowering: Lowering): Operands {
  const transA = attributes["transposeA"] === true;
  const transB = attributes["transposeB"] === true;
  const inner = lowering.shape(a).at(transA ? -2 : -1) ?? 0;
  const [left, right] = [lowering.name(a), lowering.name(b)];
  if (!transA || isWide(a, b, lowering)) return { left, right, transA, transB, inner };
  return { left: transpose(lowering, left), right, transA: false, transB, inner };
}

/**
 * `compute` gets the names of the factors and of what goes with them, or a panel of rows of the first factor and of those, and the
 * name to write to.
 */
function inPanels(
  { left, right, transA, inner }: Operands,
  others: readonly string[],
  output: ValueId,
  lowering: Lowering,
  compute: (operands: readonly string[], written: string) => string,
): void {
  const [rows = 0, columns = 0, ...more] = lowering.shape(output);
  const panel = divisorUpTo(rows, PANEL_ROWS);
  // Panels of few rows, where their number has no better divisor, would be slower than none.
  if (transA || more.length > 0 || panel === rows || panel < PANEL_ROWS / 4) {
    compute([left, right, ...others], lowering.target(output));
    return;
  }
  const slices = [{ name: left, slice: [panel, inner] }, ...others.map((name) => ({ name, slice: [panel, columns] }))];
  const [stacked = ""] = lowering.scan(rows / panel, slices, [[panel, columns]], ([left = "", ...others]) => [
    compute([left, right, ...others], lowering.fresh()),
  ]);
  lowering.reshape(stacked, [rows, columns], { outputs: [lowering.target(output)] });
}

function isWide(a: ValueId, b: ValueId, lowering: Lowering): boolean {
  return (lowering.shape(a).at(-1) ?? 0) > (lowering.shape(b).at(-1) ?? 0);
}

function transpose(lowering: Lowering, x: string, output: string = lowering.fresh()): string {
  return lowering.emit("Transpose", [x], { attributes: { perm: [1, 0] }, outputs: [output] });
}
