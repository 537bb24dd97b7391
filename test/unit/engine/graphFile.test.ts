import { describe, expect, test } from "vitest";
import type { Graph } from "../../../shared/engine/graph.ts";
import { parseGraph, serialiseGraph } from "../../../shared/engine/graphFile.ts";
import { parseGraphIndex } from "../../../shared/engine/graphIndex.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import type { StepKind } from "../../../shared/engine/stepKind.ts";
import { compile, DEFAULT_LIMITS } from "../../../shared/engine/wgsl/plan.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { type ModelSpec, presets } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { engineCases } from "../../support/engineCases.ts";

const kinds: readonly StepKind[] = ["gradient", "loss", "logits"];

const tiny: ModelSpec = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0.1 };
const models = [
  ...engineCases.map(({ name, spec, layout, batch }) => ({ name, spec, layout, batchSize: batch.batchSize })),
  { name: "tiny with dropout", spec: tiny, layout: layoutOf(gptTensors(tiny)), batchSize: 12 },
];

describe.each(models)("$name", ({ spec, layout, batchSize }) => {
  test.each(kinds)("the %s step, written and read, is the same graph and the same plan to the last bit", (kind) => {
    const traced = stepGraph(kind, spec, layout, batchSize);
    const read = parseGraph(serialiseGraph(traced), { kind, spec, layout, batchSize });
    expect(read).toEqual(traced);
    const planOf = (graph: Graph) => JSON.stringify(compile(graph, { layout, limits: DEFAULT_LIMITS, dropout: spec.dropout })); // prettier-ignore
    expect(planOf(read)).toBe(planOf(traced));
  });
});

type Loose = {
  format: number;
  values: { shape: number[]; dtype: string }[];
  constants: [number, number][];
  nodes: { op: string; inputs: number[]; outputs: number[]; attributes: Record<string, unknown> }[];
  inputs: Record<string, number>;
  outputs: Record<string, number>;
};

/** What a bug, or somebody with bad intentions, could make of the text, and what is said to it. */
const nonsense: readonly (readonly [string, (graph: Loose) => void, RegExp])[] = [
  ["another format", (g) => (g.format = 2), /format/],
  ["an extent of 0", (g) => (g.values[0]!.shape = [0]), /values\.0\.shape/],
  ["an extent that is no whole number", (g) => (g.values[3]!.shape[0] = 1.5), /values\.3\.shape/],
  ["another element type", (g) => (g.values[0]!.dtype = "float16"), /values\.0\.dtype/],
  ["a field that nobody knows", (g) => Object.assign(g.nodes[0]!, { code: "x" }), /nodes\.0/],
  ["an op that nobody knows", (g) => (g.nodes[4]!.op = "toString"), /node 4 \(toString\): there is no such op/],
  ["an op for another", (g) => (nodeOf(g, "ManyhandsCrossEntropy").op = "Add"), /\(Add\) cannot take/],
  ["a value that is not there yet", (g) => (g.nodes[0]!.inputs[0] = g.nodes[3]!.outputs[0]!), /before it is there/],
  ["a value that is not there at all", (g) => (g.nodes[2]!.outputs[0] = 1e6), /is value 1000000 of/],
  ["a value made twice", (g) => (g.nodes[3]!.outputs = g.nodes[2]!.outputs), /made twice/],
  ["an input overwritten", (g) => (g.nodes[0]!.outputs[0] = g.inputs["inputs"]!), /made twice/],
  ["a result of another shape", (g) => (g.values[nodeOf(g, "ManyhandsLayerNorm").outputs[0]!]!.shape = [1]), /makes float32 \[.*\], not float32 \[1\]/],
  ["a huge value", (g) => (g.values.at(-1)!.shape = [2 ** 20, 2 ** 20]), /value of shape/],
  ["more outputs than the op has", (g) => g.nodes[0]!.outputs.push(1), /has 2 outputs/],
  ["fewer inputs than the op has", (g) => nodeOf(g, "BatchMatMul").inputs.pop(), /has 1 inputs/],
  ["factors that do not fit", (g) => (nodeOf(g, "BatchMatMul").attributes["transposeA"] = true), /cannot take/],
  ["heads that do not divide", (g) => (nodeOf(g, "ManyhandsAttention").attributes["heads"] = 5), /cannot take/],
  ["an attribute too many", (g) => (nodeOf(g, "ManyhandsAttention").attributes["perSample"] = 1), /attributes/],
  ["an attribute too few", (g) => (nodeOf(g, "ManyhandsEmbeddingGrad").attributes = {}), /attributes/],
  ["a gradient less", (g) => delete g.outputs["gradient:wte.weight"], /output "gradient:wte.weight" is missing/],
  ["an output more", (g) => (g.outputs["secrets"] = 0), /no output "secrets"/],
  ["gradients exchanged", (g) => (g.outputs["gradient:wte.weight"] = g.outputs["gradient:wpe.weight"]!), /is float32 \[.*\], not float32/],
  ["a parameter of another name", (g) => renameInput(g, "param:wte.weight", "param:wte"), /no input "param:wte"/],
  ["a parameter read as another", (g) => (g.inputs["param:wte.weight"] = g.inputs["param:wpe.weight"]!), /not float32/],
]; // prettier-ignore

describe("what is not a step of this model is refused:", () => {
  const { spec, layout, batch } = engineCases[1]!;
  const step = { kind: "gradient", spec, layout, batchSize: batch.batchSize } as const;
  const text = serialiseGraph(stepGraph("gradient", spec, layout, batch.batchSize));

  test.each(nonsense)("%s", (_, spoil, reason) => {
    const graph = JSON.parse(text) as Loose;
    spoil(graph);
    expect(() => parseGraph(JSON.stringify(graph), step)).toThrow(reason);
  });

  test("text that is no JSON, and other JSON", () => {
    expect(() => parseGraph("<html>", step)).toThrow();
    for (const json of ["null", "[]", '{"format":1}']) expect(() => parseGraph(json, step)).toThrow(/step graph/);
  });

  test("another step, batch size or model", () => {
    expect(() => parseGraph(text, { ...step, kind: "loss" })).toThrow(/no input|no output/);
    expect(() => parseGraph(text, { ...step, batchSize: 3 })).toThrow(/the input "inputs" is int32 \[14\], not int32 \[21\]/);
    const other = engineCases[0]!;
    expect(() => parseGraph(text, { ...step, spec: other.spec, layout: other.layout })).toThrow(/step graph/);
  }); // prettier-ignore
});

test("an index that is none is refused", () => {
  const graph = { kind: "gradient", batchSize: 4, sha256: "a".repeat(64) };
  expect(parseGraphIndex({ examined: true, graphs: [graph] })).toEqual({ examined: true, graphs: [graph] });
  for (const wrong of [
    { ...graph, sha256: "../../etc" },
    { ...graph, kind: "x" },
    { ...graph, batchSize: 0 },
  ]) {
    expect(() => parseGraphIndex({ examined: true, graphs: [wrong] })).toThrow(/index of step graphs: graphs\.0/);
  }
  expect(() => parseGraphIndex({ graphs: [] })).toThrow(/examined/);
});

function nodeOf({ nodes }: Loose, op: string): Loose["nodes"][number] {
  const node = nodes.find((node) => node.op === op);
  if (node === undefined) throw new Error(`the graph has no ${op}`);
  return node;
}

function renameInput({ inputs }: Loose, from: string, to: string): void {
  inputs[to] = inputs[from]!;
  delete inputs[from];
}
