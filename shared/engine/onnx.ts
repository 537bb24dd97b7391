/**
 * @file Lowers a graph to ONNX for ONNX Runtime's CPU kernels. Here: the driver and the plain ops; the named ops are in
 * onnxOps.ts. Sums ride on products where Gemm can add (a bias, the residual stream), so such products wait for their sum.
 */
import type { Graph, ValueId } from "./graph.ts";
import { Lowering, type Rule } from "./onnxLowering.ts";
import { namedRules } from "./onnxOps.ts";
import { lowerProduct, lowerProductPlus } from "./onnxProducts.ts";
import type { OnnxGraph } from "./onnxProto.ts";

/**
 * The ONNX graph computing the same outputs, under the same names. `kernelsFrom`: elements from which values go to kernels of our own,
 * which ONNX Runtime does not know (onnxParts.ts). @throws Error for an op without a rule.
 */
export function lowerToOnnx(graph: Graph, { kernelsFrom = Infinity }: { kernelsFrom?: number } = {}): OnnxGraph {
  const lowering = new Lowering(graph, { rules: { ...plainRules, ...namedRules }, waits, kernelsFrom });
  for (const node of graph.nodes) lowering.lower(node);
  return lowering.finish();
}

/** Ops that wait for the sum or the product they are part of, when that is their only use. */
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
  BatchMatMul: lowerProduct,
};

/** Lowers `sum = waiting + addend` as one node. False when `waiting` is not waiting or cannot take the addend. */
function addToProduct(waiting: ValueId, addend: ValueId, sum: ValueId, lowering: Lowering): boolean {
  const shape = lowering.shape(sum);
  const extents = lowering.shape(addend);
  if (shape.length !== 2 || lowering.shape(waiting).join() !== shape.join()) return false;
  const isBias = extents.length === 1 && extents[0] === shape[1];
  if (isBias) {
    const norm = lowering.takeWaiting(waiting, "ManyhandsLayerNorm");
    if (norm) {
      lowering.apply({ ...norm, inputs: [...norm.inputs, addend], outputs: [sum] });
      return true;
    }
  }
  if (!isBias && extents.join() !== shape.join()) return false;
  const matMul = lowering.takeWaiting(waiting, "BatchMatMul");
  if (matMul) {
    lowerProductPlus(matMul, addend, sum, lowering);
    return true;
  }
  const other =
    lowering.takeWaiting(waiting, "ManyhandsEmbeddingGrad") ?? lowering.takeWaiting(waiting, "ManyhandsLayerNormGrad");
  if (!other) return false;
  const outputs = [sum, ...other.outputs.slice(1)];
  lowering.apply({ ...other, inputs: [...other.inputs, addend], outputs });
  return true;
}
