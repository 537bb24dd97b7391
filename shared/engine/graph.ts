/** @file A training step as a static graph: what trace.ts records, simplified, and what a lowering reads. */
import type { Attributes, TensorSpec } from "../model/ops/op.ts";

export type ValueId = number;

export type GraphNode = {
  /** A tfjs kernel's name: "Add", "BatchMatMul", …, or a named op's. */
  readonly op: string;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  readonly attributes: Attributes;
};

export type Graph = {
  /** Shape and type of every value, by its id. */
  readonly values: readonly TensorSpec[];
  /** Values of which every element is the same known number. */
  readonly constants: ReadonlyMap<ValueId, number>;
  /** In an order in which every node comes after those it reads. */
  readonly nodes: readonly GraphNode[];
  readonly inputs: Readonly<Record<string, ValueId>>;
  readonly outputs: Readonly<Record<string, ValueId>>;
};

/**
 * The same function with fewer nodes: aliases resolved (a reshape to the same shape, of a reshape; + 0, × 1), equal nodes
 * merged, and whatever no output needs removed.
 */
export function simplify(graph: Graph): Graph {
  const alias = new Map<ValueId, ValueId>();
  const resolve = (id: ValueId): ValueId => alias.get(id) ?? id;
  const producers = new Map<ValueId, GraphNode>();
  const seen = new Map<string, GraphNode>();
  const nodes: GraphNode[] = [];
  for (const original of graph.nodes) {
    const node = shorten({ ...original, inputs: original.inputs.map(resolve) }, producers);
    const [output] = node.outputs;
    const same = output === undefined ? undefined : sameAs(node, output, graph);
    if (same !== undefined && output !== undefined) {
      alias.set(output, same);
      continue;
    }
    const key = `${node.op}(${node.inputs.join()})${JSON.stringify(node.attributes)}:${node.outputs.map((id) => graph.values[id]?.shape.join("x")).join()}`;
    const earlier = seen.get(key);
    if (earlier) {
      for (const [i, id] of node.outputs.entries()) alias.set(id, earlier.outputs[i] ?? id);
      continue;
    }
    seen.set(key, node);
    nodes.push(node);
    for (const id of node.outputs) producers.set(id, node);
  }
  const outputs = Object.fromEntries(Object.entries(graph.outputs).map(([name, id]) => [name, resolve(id)]));
  return { ...graph, outputs, nodes: live(nodes, Object.values(outputs)) };
}

/** How often each value is read, by a node or as an output. */
export function useCounts({ nodes, outputs }: Graph): ReadonlyMap<ValueId, number> {
  const counts = new Map<ValueId, number>();
  for (const id of [...nodes.flatMap((node) => node.inputs), ...Object.values(outputs)]) {
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

/** A reshape of a reshape reads the first one's input. */
function shorten(node: GraphNode, producers: ReadonlyMap<ValueId, GraphNode>): GraphNode {
  if (node.op !== "Reshape") return node;
  const inner = producers.get(node.inputs[0] ?? -1);
  return inner?.op === "Reshape" ? { ...node, inputs: inner.inputs } : node;
}

/** The input that the node's output equals, if there is one. */
function sameAs({ op, inputs }: GraphNode, output: ValueId, { values, constants }: Graph): ValueId | undefined {
  const [a = -1, b = -1] = inputs;
  const shapeOf = (id: ValueId) => values[id]?.shape.join("x");
  const fits = (id: ValueId) => shapeOf(id) === shapeOf(output) && values[id]?.dtype === values[output]?.dtype;
  if (op === "Identity" || op === "Cast" || op === "Reshape") return fits(a) ? a : undefined;
  const neutral = op === "Add" ? 0 : op === "Multiply" ? 1 : undefined;
  if (neutral === undefined) return undefined;
  if (constants.get(b) === neutral && fits(a)) return a;
  return constants.get(a) === neutral && fits(b) ? b : undefined;
}

function live(nodes: readonly GraphNode[], outputs: readonly ValueId[]): GraphNode[] {
  const needed = new Set(outputs);
  const kept = nodes.toReversed().filter((node) => {
    if (!node.outputs.some((id) => needed.has(id))) return false;
    for (const id of node.inputs) needed.add(id);
    return true;
  });
  return kept.reverse();
}
