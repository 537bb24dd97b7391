/**
 * @file First pass: the traced graph (simplify() has removed dead and repeated nodes) without what costs a GPU nothing. A
 * reshape, cast or copy is another name for the same bytes; a dropout mask is a key from which the kernel draws it.
 */
import { sizeOf } from "../../numerics/layout.ts";
import type { Graph, GraphNode, ValueId } from "../graph.ts";
import { MASK } from "../stepKind.ts";
import { KEYS } from "./names.ts";

export function cleanUp(graph: Graph): Graph {
  const { nodes, alias } = withoutAliases(graph);
  const outputs = Object.fromEntries(
    Object.entries(graph.outputs).map(([name, id]) => [name, alias.get(id) ?? id] as const),
  );
  return masksToKeys({ ...graph, nodes, outputs });
}

/** Tensors are dense and row-major, so a reshape moves nothing. Consumers see the first name's shape; sizes are what counts. */
function withoutAliases({ nodes, values }: Graph): { nodes: GraphNode[]; alias: ReadonlyMap<ValueId, ValueId> } {
  const alias = new Map<ValueId, ValueId>();
  const kept: GraphNode[] = [];
  for (const original of nodes) {
    const node = { ...original, inputs: original.inputs.map((id) => alias.get(id) ?? id) };
    const [input = -1] = node.inputs;
    const [output = -1] = node.outputs;
    const sameType = values[input]?.dtype === values[output]?.dtype;
    if (node.op === "Reshape" || node.op === "Identity" || (node.op === "Cast" && sameType)) alias.set(output, input);
    else kept.push(node);
  }
  return { nodes: kept, alias };
}

/** A mask [B·rows, …] of an input becomes the key of each sample, [B]; its readers learn how many elements a sample has. */
function masksToKeys(graph: Graph): Graph {
  const masks = Object.entries(graph.inputs).filter(([name]) => name.startsWith(MASK));
  if (masks.length === 0) return graph;
  const batch = batchOf(graph);
  const values = [...graph.values];
  const perSample = new Map<ValueId, number>();
  for (const [, id] of masks) {
    perSample.set(id, sizeOf(graph.values[id]?.shape ?? []) / batch);
    values[id] = { shape: [batch], dtype: "int32" };
  }
  const nodes = graph.nodes.map((node) => {
    const mask = node.inputs.find((id) => perSample.has(id));
    if (mask === undefined) return node;
    return { ...node, attributes: { ...node.attributes, perSample: perSample.get(mask) ?? 0 } };
  });
  const inputs = Object.fromEntries(
    Object.entries(graph.inputs).map(([name, id]) => [perSample.has(id) ? KEYS + name.slice(MASK.length) : name, id]),
  );
  return { ...graph, values, nodes, inputs };
}

function batchOf({ nodes }: Graph): number {
  const batch = nodes.find(({ attributes }) => typeof attributes["batch"] === "number")?.attributes["batch"];
  if (typeof batch !== "number")
    throw new Error("a graph with dropout masks has no attention that tells its batch size");
  return batch;
}
