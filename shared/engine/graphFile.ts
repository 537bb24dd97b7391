/**
 * @file A traced graph as text, so that one program traces the model and others need neither tfjs nor the model's code. What is
 * read may come from a stranger: every node's shapes are inferred anew, and inputs and outputs must be those of the step.
 */
import * as z from "zod/mini";
import type { Attributes, TensorSpec } from "../model/ops/op.ts";
import type { ModelSpec } from "../model/spec.ts";
import { type ParamLayout, sizeOf } from "../numerics/layout.ts";
import type { Graph, GraphNode, ValueId } from "./graph.ts";
import { type StepKind, stepInputs, stepOutputs } from "./stepKind.ts";

/** Raised when older readers would misread the text. */
export const GRAPH_FORMAT = 1;

/** GPT-2 XL's step has 2,000 nodes and 5,000 values. */
const MOST = 1_000_000;

/** Elements of a value: 64 GiB of floats. */
const MOST_ELEMENTS = 2 ** 34;

export function serialiseGraph({ values, constants, nodes, inputs, outputs }: Graph): string {
  return JSON.stringify({ format: GRAPH_FORMAT, values, constants: [...constants], nodes, inputs, outputs });
}

const id = z.int().check(z.nonnegative());
const extents = z.array(z.int().check(z.positive())).check(z.maxLength(8));
const schema = z.strictObject({
  format: z.literal(GRAPH_FORMAT),
  values: z.array(z.strictObject({ shape: extents, dtype: z.enum(["float32", "int32"]) })).check(z.maxLength(MOST)),
  constants: z.array(z.tuple([id, z.number()])).check(z.maxLength(MOST)),
  nodes: z
    .array(
      z.strictObject({
        op: z.string(),
        inputs: z.array(id).check(z.maxLength(8)),
        outputs: z.array(id).check(z.maxLength(8)),
        attributes: z.record(z.string(), z.union([z.number(), z.boolean(), z.array(z.number())])),
      }),
    )
    .check(z.maxLength(MOST)),
  inputs: z.record(z.string(), id),
  outputs: z.record(z.string(), id),
});

/**
 * The graph of a step of this model with this batch size. @throws Error with the first thing in it that cannot be.
 */
export function parseGraph(
  text: string,
  { kind, spec, layout, batchSize }: { kind: StepKind; spec: ModelSpec; layout: ParamLayout; batchSize: number },
): Graph {
  const parsed = schema.safeParse(JSON.parse(text));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`step graph: ${issue?.path.join(".") || "the text"}: ${issue?.message}`);
  }
  const { values, nodes, inputs, outputs } = parsed.data;
  const graph: Graph = { values, constants: new Map(parsed.data.constants), nodes, inputs, outputs };
  const given = stepInputs(kind, spec, layout, batchSize);
  requireEnds("input", graph, inputs, given);
  const known = new Set<ValueId>();
  const define = (id: ValueId, what: string): void => {
    if (id >= values.length) refuse(`${what} is value ${id} of ${values.length}`);
    if (known.has(id)) refuse(`value ${id} is made twice, the second time by ${what}`);
    known.add(id);
  };
  for (const { shape } of values) if (sizeOf(shape) > MOST_ELEMENTS) refuse(`a value of shape [${shape.join()}]`);
  for (const name of Object.keys(given)) define(inputs[name]!, name);
  for (const [id] of parsed.data.constants) define(id, "a constant");
  for (const [number, node] of nodes.entries()) {
    const what = `node ${number} (${node.op.slice(0, 40)})`;
    for (const id of node.inputs) if (!known.has(id)) refuse(`${what} reads value ${id} before it is there`);
    const inferred = infer(node, what, (id) => values[id]!);
    if (inferred.length !== node.outputs.length) refuse(`${what} has ${node.outputs.length} outputs`);
    for (const [i, output] of node.outputs.entries()) {
      define(output, what);
      if (!same(inferred[i]!, values[output]!)) {
        refuse(`${what} makes ${inWords(inferred[i]!)}, not ${inWords(values[output]!)}`);
      }
    }
  }
  requireEnds("output", graph, outputs, stepOutputs(kind, spec, layout, batchSize));
  for (const [name, id] of Object.entries(outputs)) if (!known.has(id)) refuse(`output ${name} is never made`);
  return graph;
}

/** Exactly the names expected, each of its shape. */
function requireEnds(
  what: string,
  { values }: Graph,
  found: Readonly<Record<string, ValueId>>,
  expected: Readonly<Record<string, TensorSpec>>,
): void {
  for (const name of Object.keys(found)) if (!Object.hasOwn(expected, name)) refuse(`there is no ${what} "${name.slice(0, 80)}"`); // prettier-ignore
  for (const [name, spec] of Object.entries(expected)) {
    const value = Object.hasOwn(found, name) ? values[found[name]!] : undefined;
    if (value === undefined) return refuse(`the ${what} "${name}" is missing`);
    if (!same(value, spec)) refuse(`the ${what} "${name}" is ${inWords(value)}, not ${inWords(spec)}`);
  }
}

type Rule = {
  /** Fewest and most inputs. */
  readonly inputs: readonly [number, number];
  readonly attributes: readonly string[];
  /** Null: inputs that do not go together. */
  readonly outputs: (inputs: readonly TensorSpec[], attributes: Attributes) => readonly TensorSpec[] | null;
};

/** The ops of a step: what trace.ts records of tfjs, and the named ops (model/ops). */
const rules: Readonly<Record<string, Rule>> = {
  Add: { inputs: [2, 2], attributes: [], outputs: broadcast },
  Multiply: { inputs: [2, 2], attributes: [], outputs: broadcast },
  Identity: { inputs: [1, 1], attributes: [], outputs: ([x]) => [x!] },
  Reshape: {
    inputs: [1, 1],
    attributes: ["shape"],
    outputs: ([x], { shape }) =>
      isExtents(shape) && sizeOf(shape) === sizeOf(x!.shape) ? [{ shape, dtype: x!.dtype }] : null,
  },
  Sum: {
    inputs: [1, 1],
    attributes: ["axis", "keepDims"],
    outputs: ([x], { axis, keepDims }) => {
      const rank = x!.shape.length;
      if (!Array.isArray(axis) || typeof keepDims !== "boolean") return null;
      const axes: readonly number[] = axis;
      if (axes.some((axis) => !Number.isInteger(axis) || axis < 0 || axis >= rank)) return null;
      const shape = x!.shape.flatMap((extent, i) => (!axes.includes(i) ? [extent] : keepDims ? [1] : []));
      return [{ shape, dtype: x!.dtype }];
    },
  },
  BatchMatMul: {
    inputs: [2, 2],
    attributes: ["transposeA", "transposeB"],
    outputs: ([a, b], { transposeA, transposeB }) => {
      const [left, right] = [a!.shape, b!.shape];
      if (left.length < 2 || left.length !== right.length || !areFloats([a!, b!])) return null;
      const leading = left.slice(0, -2);
      const [rows, inner] = transposeA === true ? [left.at(-1), left.at(-2)] : [left.at(-2), left.at(-1)];
      const [fits, columns] = transposeB === true ? [right.at(-1), right.at(-2)] : [right.at(-2), right.at(-1)];
      if (fits !== inner || leading.join() !== right.slice(0, -2).join()) return null;
      return [float([...leading, rows!, columns!])];
    },
  },
  ManyhandsEmbedding: {
    inputs: [2, 2],
    attributes: [],
    outputs: ([table, ids]) =>
      isMatrix(table!) && isVector(ids!, "int32") ? [float([ids!.shape[0]!, table!.shape[1]!])] : null,
  },
  ManyhandsEmbeddingGrad: {
    inputs: [2, 2],
    attributes: ["rows"],
    outputs: ([dy, ids], { rows }) =>
      isMatrix(dy!) && isVector(ids!, "int32", dy!.shape[0]) && isExtents([rows])
        ? [float([rows as number, dy!.shape[1]!])]
        : null,
  },
  ManyhandsLayerNorm: {
    inputs: [2, 2],
    attributes: [],
    outputs: ([x, gain]) => (isMatrix(x!) && isVector(gain!, "float32", x!.shape[1]) ? [x!] : null),
  },
  ManyhandsLayerNormGrad: {
    inputs: [3, 3],
    attributes: [],
    outputs: ([dy, x, gain]) =>
      isMatrix(x!) && same(dy!, x!) && isVector(gain!, "float32", x!.shape[1]) ? [x!, gain!] : null,
  },
  ManyhandsAttention: {
    inputs: [1, 2],
    attributes: ["batch", "context", "heads"],
    outputs: ([qkv, mask], shape) => {
      const out = attentionOutput(qkv!, mask, shape);
      return out && [out];
    },
  },
  ManyhandsAttentionGrad: {
    inputs: [2, 3],
    attributes: ["batch", "context", "heads"],
    outputs: ([dy, qkv, mask], shape) => {
      const out = attentionOutput(qkv!, mask, shape);
      return out && same(dy!, out) ? [qkv!] : null;
    },
  },
  ManyhandsGelu: { inputs: [1, 1], attributes: [], outputs: ([x]) => (areFloats([x!]) ? [x!] : null) },
  ManyhandsGeluGrad: { inputs: [2, 2], attributes: [], outputs: alike },
  ManyhandsDropout: { inputs: [2, 2], attributes: [], outputs: alike },
  ManyhandsCrossEntropy: {
    inputs: [2, 2],
    attributes: [],
    outputs: ([logits, targets]) =>
      isMatrix(logits!) && isVector(targets!, "int32", logits!.shape[0]) ? [float([])] : null,
  },
  ManyhandsCrossEntropyGrad: {
    inputs: [3, 3],
    attributes: [],
    outputs: ([dy, logits, targets]) =>
      same(dy!, float([])) && isMatrix(logits!) && isVector(targets!, "int32", logits!.shape[0]) ? [logits!] : null,
  },
};

function infer(
  { op, inputs, attributes }: GraphNode,
  what: string,
  valueOf: (id: ValueId) => TensorSpec,
): readonly TensorSpec[] {
  const rule = Object.hasOwn(rules, op) ? rules[op] : undefined;
  if (rule === undefined) return refuse(`${what}: there is no such op`);
  const [fewest, most] = rule.inputs;
  if (inputs.length < fewest || inputs.length > most) return refuse(`${what} has ${inputs.length} inputs`);
  const names = Object.keys(attributes);
  if (names.toSorted().join() !== rule.attributes.toSorted().join()) {
    return refuse(`${what} has the attributes "${names.join().slice(0, 80)}", not "${rule.attributes.join()}"`);
  }
  const specs = inputs.map(valueOf);
  return rule.outputs(specs, attributes) ?? refuse(`${what} cannot take ${specs.map(inWords).join(" and ")}`);
}

function broadcast([a, b]: readonly TensorSpec[]): TensorSpec[] | null {
  if (a!.dtype !== b!.dtype) return null;
  const rank = Math.max(a!.shape.length, b!.shape.length);
  const shape: number[] = [];
  for (let i = -rank; i < 0; i++) {
    const [m, n] = [a!.shape.at(i) ?? 1, b!.shape.at(i) ?? 1];
    if (m !== n && m !== 1 && n !== 1) return null;
    shape.push(Math.max(m, n));
  }
  return [{ shape, dtype: a!.dtype }];
}

function alike([x, y]: readonly TensorSpec[]): TensorSpec[] | null {
  return areFloats([x!]) && same(x!, y!) ? [x!] : null;
}

/** [B·T, d] for qkv [B·T, 3d] and a mask [B, H, T, T]. */
function attentionOutput(
  qkv: TensorSpec,
  mask: TensorSpec | undefined,
  { batch, context, heads }: Attributes,
): TensorSpec | null {
  if (!isMatrix(qkv) || !isExtents([batch, context, heads])) return null;
  const [rows = 0, columns = 0] = qkv.shape;
  const [b, t, h] = [batch as number, context as number, heads as number];
  if (rows !== b * t || columns % (3 * h) !== 0) return null;
  if (mask !== undefined && !same(mask, float([b, h, t, t]))) return null;
  return float([rows, columns / 3]);
}

function float(shape: readonly number[]): TensorSpec {
  return { shape, dtype: "float32" };
}

function areFloats(specs: readonly TensorSpec[]): boolean {
  return specs.every(({ dtype }) => dtype === "float32");
}

function isMatrix({ shape, dtype }: TensorSpec): boolean {
  return shape.length === 2 && dtype === "float32";
}

function isVector({ shape, dtype }: TensorSpec, wanted: TensorSpec["dtype"], length = shape[0]): boolean {
  return shape.length === 1 && shape[0] === length && dtype === wanted;
}

function isExtents(list: unknown): list is number[] {
  return Array.isArray(list) && list.every((extent) => Number.isInteger(extent) && extent >= 1);
}

function same(a: TensorSpec, b: TensorSpec): boolean {
  return (
    a.dtype === b.dtype && a.shape.length === b.shape.length && a.shape.every((extent, i) => extent === b.shape[i])
  );
}

function inWords({ shape, dtype }: TensorSpec): string {
  return `${dtype} [${shape.join()}]`;
}

function refuse(problem: string): never {
  throw new Error(`step graph: ${problem}`);
}
