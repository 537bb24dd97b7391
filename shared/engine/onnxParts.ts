/**
 * @file Cuts a lowered step at the kernels of our own: parts for ONNX Runtime, one after the other, with such a kernel between them. Layers
 * are alike, and so are their parts: values get names by their order in a part, so that like parts are equal and one session serves all.
 */
import { KERNELS } from "./onnxKernels.ts";
import type { OnnxAttribute, OnnxConstant, OnnxGraph, OnnxNode } from "./onnxProto.ts";

/** A value of the step, and the shape it is given here where that is another one: nothing is copied for that. */
export type Passed = { readonly name: string; readonly shape?: readonly number[] };

/** What ONNX Runtime runs. `reads` and `writes` are in the order of the graph's inputs and outputs. */
export type SessionPart = {
  readonly kind: "session";
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxConstant[];
  readonly reads: readonly Passed[];
  /** `shape`: that by which others know it. */
  readonly writes: readonly Passed[];
};

export type KernelPart = {
  readonly kind: "kernel";
  readonly op: string;
  readonly reads: readonly Passed[];
  readonly writes: readonly Passed[];
};

export type Part = SessionPart | KernelPart;

/** In the order in which they run. Names inside a session's part are its own: `reads[i]` is called `in${i}`, `writes[i]` `out${i}`. */
export function cutAtKernels({ nodes, inputs, outputs, constants }: OnnxGraph): Part[] {
  const groups: OnnxNode[][] = [[]];
  for (const node of nodes) {
    if (node.domain === KERNELS) groups.push([node], []);
    else groups.at(-1)!.push(node);
  }
  const given = new Set([...inputs, ...outputs].map(({ name }) => name));
  const known = new Map(constants.map((constant) => [constant.name, constant]));
  const needed = new Set(outputs.map(({ name }) => name));
  const parts: Part[] = [];
  for (const group of groups.toReversed()) {
    const [node] = group;
    if (!node) continue;
    if (node.domain === KERNELS) {
      parts.push({ kind: "kernel", op: node.op, reads: node.inputs.map(named), writes: node.outputs.map(named) });
    } else {
      parts.push(sessionPart(group, { needed, given, known }));
    }
    for (const { name } of parts.at(-1)!.reads) needed.add(name);
  }
  return parts.reverse();
}

function named(name: string): Passed {
  return { name };
}

/**
 * `needed`: by later parts, or as an output; `given`: to the step, inputs and outputs. Where a part begins or ends with a Reshape of
 * what it gets from another or hands on, ONNX Runtime would copy; there the value is passed in the shape that is wanted.
 */
function sessionPart(
  group: readonly OnnxNode[],
  {
    needed,
    given,
    known,
  }: { needed: ReadonlySet<string>; given: ReadonlySet<string>; known: ReadonlyMap<string, OnnxConstant> },
): SessionPart {
  const made = new Set(group.flatMap((node) => node.outputs));
  const reads = new Map<string, Passed>();
  const writes = new Map<string, Passed>();
  const dropped = new Set<OnnxNode>();
  /** What has its one way in or out already. */
  const passed = new Set<string>();
  for (const node of group) {
    if (node.op !== "Reshape") continue;
    const [source = "", shapeName = ""] = node.inputs;
    const [result = ""] = node.outputs;
    const shape = known.get(shapeName)?.values ?? [];
    if (shape.length === 0 || shape.some((extent) => extent < 1) || known.has(source)) continue;
    if (!made.has(source) && !given.has(source) && !needed.has(result)) {
      passed.add(result);
      reads.set(result, { name: source, shape });
      dropped.add(node);
    } else if (
      made.has(source) &&
      !passed.has(source) &&
      !needed.has(source) &&
      needed.has(result) &&
      !given.has(result)
    ) {
      passed.add(source);
      writes.set(source, { name: result, shape });
      if (!group.some((other) => namesRead(other).includes(result))) dropped.add(node);
    }
  }
  const kept = group.filter((node) => !dropped.has(node));
  const passedOn = new Set([...writes.values()].map(({ name }) => name));
  for (const name of made) if (needed.has(name) && !passedOn.has(name)) writes.set(name, { name });
  const used = new Set(kept.flatMap(namesRead));
  for (const name of used) {
    if (name !== "" && !made.has(name) && !known.has(name)) reads.set(name, { name });
  }
  const own = [...used].flatMap((name) => known.get(name) ?? []);
  return {
    kind: "session",
    ...renamed(kept, own, [...reads.keys()], [...writes.keys()]),
    reads: [...reads.values()],
    writes: [...writes.values()],
  };
}

/** What a node reads, also inside the graphs it has; what those make themselves is not read. */
function namesRead({ inputs, attributes = {} }: OnnxNode): string[] {
  const inside = Object.values(attributes).flatMap((attribute) => {
    const graph = graphOf(attribute);
    if (!graph) return [];
    const own = new Set([...graph.inputs.map(({ name }) => name), ...graph.nodes.flatMap((node) => node.outputs)]);
    return [...graph.nodes.flatMap(namesRead), ...graph.outputs.map(({ name }) => name)].filter(
      (name) => !own.has(name),
    );
  });
  return [...inputs, ...inside];
}

function graphOf(attribute: OnnxAttribute): OnnxGraph | undefined {
  return typeof attribute === "object" && "graph" in attribute ? attribute.graph : undefined;
}

function renamed(
  nodes: readonly OnnxNode[],
  constants: readonly OnnxConstant[],
  reads: readonly string[],
  writes: readonly string[],
): Pick<SessionPart, "nodes" | "constants"> {
  const names = new Map<string, string>([
    ["", ""],
    ...reads.map((name, i): [string, string] => [name, `in${i}`]),
    ...writes.map((name, i): [string, string] => [name, `out${i}`]),
  ]);
  const nameOf = (name: string): string => {
    const found = names.get(name) ?? `t${names.size}`;
    names.set(name, found);
    return found;
  };
  const value = <V extends { readonly name: string }>(given: V): V => ({ ...given, name: nameOf(given.name) });
  const graph = (inner: OnnxGraph): OnnxGraph => ({
    nodes: inner.nodes.map(rename),
    inputs: inner.inputs.map(value),
    outputs: inner.outputs.map(value),
    constants: inner.constants.map(value),
  });
  const rename = (node: OnnxNode): OnnxNode => ({
    ...node,
    inputs: node.inputs.map(nameOf),
    outputs: node.outputs.map(nameOf),
    attributes: Object.fromEntries(
      Object.entries(node.attributes ?? {}).map(([key, attribute]) => {
        const inner = graphOf(attribute);
        return [key, inner ? { graph: graph(inner) } : attribute];
      }),
    ),
  });
  return { nodes: nodes.map(rename), constants: constants.map(value) };
}
