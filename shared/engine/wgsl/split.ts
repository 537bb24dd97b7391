/**
 * @file Before fusion: what is larger than a binding may be is cut along the vocabulary. Of our models only the token table, its
 * gradient and the logits grow that large; rows of the table become values of their own, and so do columns of the logits.
 */
import { sizeOf } from "../../numerics/layout.ts";
import type { TensorSpec } from "../../model/ops/op.ts";
import type { Graph, GraphNode, ValueId } from "../graph.ts";
import { sliceName } from "./names.ts";

/** Rows of a chunk: a start aligned to 256 elements for every width, as bindings need it. */
const CHUNK_ROWS = 64;

/** The same function, no value above `maxBindingBytes`. @throws Error naming the value that cannot be cut. */
export function split(graph: Graph, maxBindingBytes: number): Graph {
  const bytes = (id: ValueId): number => 4 * sizeOf(graph.values[id]?.shape ?? []);
  let result = graph;
  for (const head of graph.nodes) {
    const [x = -1, table = -1] = head.inputs;
    const [logits = -1] = head.outputs;
    if (head.op !== "BatchMatMul" || head.attributes["transposeB"] !== true) continue;
    if (!Object.values(graph.inputs).includes(table) || Math.max(bytes(table), bytes(logits)) <= maxBindingBytes)
      continue;
    const [vocabulary = 1, width = 1] = graph.values[table]?.shape ?? [];
    const rows = sizeOf(graph.values[x]?.shape ?? []) / width;
    const fit = Math.floor(maxBindingBytes / 4 / Math.max(width, rows) / CHUNK_ROWS) * CHUNK_ROWS;
    if (fit === 0) throw new Error(`logits of ${rows} tokens do not fit a binding of ${maxBindingBytes} bytes`);
    result = splitVocabulary(result, head, table, chunksOf(vocabulary, fit));
  }
  for (const [id, { shape }] of result.values.entries()) {
    const used = result.nodes.some(({ inputs, outputs }) => inputs.includes(id) || outputs.includes(id));
    if (used && 4 * sizeOf(shape) > maxBindingBytes) {
      throw new Error(`a value [${shape.join()}] does not fit a binding of ${maxBindingBytes} bytes`);
    }
  }
  return result;
}

type Chunk = { readonly first: number; readonly rows: number };

/** As equal as multiples of {@link CHUNK_ROWS} can be. */
function chunksOf(vocabulary: number, fit: number): Chunk[] {
  const count = Math.ceil(vocabulary / fit);
  const rows = Math.ceil(vocabulary / count / CHUNK_ROWS) * CHUNK_ROWS;
  return Array.from({ length: Math.ceil(vocabulary / rows) }, (_, i) => ({
    first: i * rows,
    rows: Math.min(rows, vocabulary - i * rows),
  }));
}

function splitVocabulary(graph: Graph, head: GraphNode, table: ValueId, chunks: readonly Chunk[]): Graph {
  const values: TensorSpec[] = [...graph.values];
  const inputs = { ...graph.inputs };
  const outputs = { ...graph.outputs };
  const add = (shape: readonly number[]): ValueId => values.push({ shape, dtype: "float32" }) - 1;
  const [, width = 1] = values[table]?.shape ?? [];

  /** The chunks of every value that is cut. */
  const parts = new Map<ValueId, ValueId[]>();
  const partsOf = (id: ValueId): ValueId[] => parts.get(id) ?? [];
  const cutRows = (id: ValueId): ValueId[] => {
    const cut = chunks.map(({ rows }) => add([rows, width]));
    parts.set(id, cut);
    for (const record of [inputs, outputs]) {
      const name = nameOf(record, id);
      if (name === undefined) continue;
      delete record[name];
      for (const [i, { first }] of chunks.entries()) record[sliceName(name, first * width)] = cut[i] ?? -1;
    }
    return cut;
  };
  const cutColumns = (id: ValueId): ValueId[] => {
    const [rows = 0] = values[id]?.shape ?? [];
    const cut = chunks.map((chunk) => add([rows, chunk.rows]));
    parts.set(id, cut);
    return cut;
  };
  const nodes: GraphNode[] = [];
  /** Σ of what `make` returns for each chunk, the last sum being `output`. */
  const sum = (output: ValueId, make: (chunk: number, target: ValueId) => GraphNode): void => {
    let total = -1;
    for (const i of chunks.keys()) {
      const shape = values[output]?.shape ?? [];
      const term = add(shape);
      nodes.push(make(i, term));
      if (i === 0) {
        total = term;
        continue;
      }
      const next = i === chunks.length - 1 ? output : add(shape);
      nodes.push({ op: "Add", inputs: [term, total], outputs: [next], attributes: {} });
      total = next;
    }
  };

  cutRows(table);
  for (const node of graph.nodes) {
    const [a = -1, b = -1, c = -1] = node.inputs;
    const [output = -1] = node.outputs;
    const isLogits = node === head || (node.op === head.op && b === table && a === head.inputs[0]);
    if (isLogits) {
      cutColumns(output).forEach((id, i) =>
        nodes.push({ ...node, inputs: [a, partsOf(table)[i] ?? -1], outputs: [id] }),
      );
    } else if (node.op === "ManyhandsEmbedding" && a === table) {
      sum(output, (i, target) => {
        const { first = 0, rows = 0 } = chunks[i] ?? {};
        return { ...node, inputs: [partsOf(table)[i] ?? -1, b], outputs: [target], attributes: { first, rows } };
      });
    } else if (node.op === "ManyhandsCrossEntropy" && parts.has(a)) {
      nodes.push({ ...node, inputs: [...partsOf(a), b] });
    } else if (node.op === "ManyhandsCrossEntropyGrad" && parts.has(b)) {
      cutColumns(output).forEach((id, i) =>
        nodes.push({ ...node, inputs: [a, partsOf(b)[i] ?? -1, c], outputs: [id] }),
      );
    } else if (node.op === "BatchMatMul" && parts.has(a) && b === table) {
      sum(output, (i, target) => ({
        ...node,
        inputs: [partsOf(a)[i] ?? -1, partsOf(table)[i] ?? -1],
        outputs: [target],
      }));
    } else if (node.op === "BatchMatMul" && parts.has(a)) {
      cutRows(output).forEach((id, i) => nodes.push({ ...node, inputs: [partsOf(a)[i] ?? -1, b], outputs: [id] }));
    } else if (node.op === "ManyhandsEmbeddingGrad" && values[output]?.shape[0] === values[table]?.shape[0]) {
      cutRows(output).forEach((id, i) => nodes.push({ ...node, outputs: [id], attributes: { ...chunks[i] } }));
    } else if (node.op === "Add" && parts.has(a) && parts.has(b)) {
      cutRows(output).forEach((id, i) =>
        nodes.push({ ...node, inputs: [partsOf(a)[i] ?? -1, partsOf(b)[i] ?? -1], outputs: [id] }),
      );
    } else if (node.inputs.some((id) => parts.has(id))) {
      throw new Error(`op "${node.op}" on a value that is too large for a binding has no kernel`);
    } else {
      nodes.push(node);
    }
  }
  if (Object.values(outputs).some((id) => parts.has(id))) {
    throw new Error("an output of the graph is too large for a binding");
  }
  return { ...graph, values, nodes, inputs, outputs };
}

function nameOf(record: Readonly<Record<string, ValueId>>, id: ValueId): string | undefined {
  return Object.entries(record).find(([, value]) => value === id)?.[0];
}
