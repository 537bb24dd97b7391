/** @file Graphs for the tests of single passes, written down instead of traced. */
import type { Graph, GraphNode, ValueId } from "../../../../shared/engine/graph.ts";
import type { Attributes } from "../../../../shared/model/ops/op.ts";

export type Written = {
  input: (name: string, shape: readonly number[], dtype?: "float32" | "int32") => ValueId;
  constant: (value: number) => ValueId;
  node: (op: string, inputs: readonly ValueId[], shape: readonly number[], attributes?: Attributes) => ValueId;
  output: (name: string, id: ValueId) => void;
};

/** The graph that `write` writes. */
export function writeGraph(write: (graph: Written) => void): Graph {
  const values: { shape: readonly number[]; dtype: "float32" | "int32" }[] = [];
  const nodes: GraphNode[] = [];
  const constants = new Map<ValueId, number>();
  const inputs: Record<string, ValueId> = {};
  const outputs: Record<string, ValueId> = {};
  const add = (shape: readonly number[], dtype: "float32" | "int32" = "float32") => values.push({ shape, dtype }) - 1;
  write({
    input: (name, shape, dtype) => (inputs[name] = add(shape, dtype)),
    constant: (value) => {
      const id = add([]);
      constants.set(id, value);
      return id;
    },
    node: (op, from, shape, attributes = {}) => {
      const id = add(shape);
      nodes.push({ op, inputs: from, outputs: [id], attributes });
      return id;
    },
    output: (name, id) => {
      outputs[name] = id;
    },
  });
  return { values, nodes, constants, inputs, outputs };
}
