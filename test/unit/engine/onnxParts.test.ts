import { expect, test } from "vitest";
import { GELU_WITH_SLOPE, KERNELS } from "../../../shared/engine/onnxKernels.ts";
import { lowerToOnnx } from "../../../shared/engine/onnx.ts";
import { cutAtKernels, type Part } from "../../../shared/engine/onnxParts.ts";
import { placesOf, sizeOf } from "../../../shared/engine/onnxPlaces.ts";
import type { OnnxConstant, OnnxGraph, OnnxNode, OnnxValue } from "../../../shared/engine/onnxProto.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { type ModelSpec, presets } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";

const spec: ModelSpec = { kind: "gpt", ...presets.small, vocabulary: 65, dropout: 0 };
const step = stepGraph("gradient", spec, layoutOf(gptTensors(spec)), 8);

test("a step is cut at its GELUs and gradients of layer norm, and its layers share sessions", () => {
  const parts = cutAtKernels(lowerToOnnx(step, { kernelsFrom: 0 }));
  const sessions = parts.flatMap((part) => (part.kind === "session" ? [part] : []));
  expect(parts.filter(({ kind }) => kind === "kernel")).toHaveLength(spec.layers + 2 * spec.layers + 1);
  expect(sessions).toHaveLength(spec.layers + 2 * spec.layers + 2);
  const models = new Set(sessions.map(({ nodes, constants }) => JSON.stringify([nodes, constants])));
  // The beginning, forward, the middle, two backward, the end.
  expect(models.size).toBe(6);
});

test("without kernels a step is one part, under its own names", () => {
  const graph = lowerToOnnx(step);
  const parts = cutAtKernels(graph);
  expect(parts).toHaveLength(1);
  expect(parts[0]!.writes.map(({ name }) => name).toSorted()).toEqual(graph.outputs.map(({ name }) => name).toSorted());
});

test("small values stay with ONNX Runtime", () => {
  const elements = 8 * 256 * presets.small.width;
  const counts = [elements, elements + 1, 4 * elements + 1].map(
    (kernelsFrom) => lowerToOnnx(step, { kernelsFrom }).nodes.filter(({ domain }) => domain === KERNELS).length,
  );
  expect(counts).toEqual([19, 6, 0]);
});

test("what a part gets or hands on in another shape is passed in that shape, not copied", () => {
  const graph = chain([
    { op: "Mul", inputs: ["x", "x"], outputs: ["a"] },
    { op: "Reshape", inputs: ["a", "flat"], outputs: ["b"] },
    { op: GELU_WITH_SLOPE, inputs: ["b"], outputs: ["y", "slope"], domain: KERNELS },
    { op: "Reshape", inputs: ["slope", "square"], outputs: ["c"] },
    { op: "Mul", inputs: ["c", "x"], outputs: ["z"] },
  ]);
  const [before, kernel, after] = cutAtKernels(graph);
  expect(before).toMatchObject({ nodes: [{ op: "Mul", outputs: ["out0"] }], writes: [{ name: "b", shape: [16] }] });
  expect(kernel).toMatchObject({ reads: [{ name: "b" }], writes: [{ name: "y" }, { name: "slope" }] });
  expect(after).toMatchObject({
    nodes: [{ op: "Mul", inputs: ["in0", "in1"] }],
    reads: [{ name: "slope", shape: [4, 4] }, { name: "x" }],
  });
});

test("a value that is passed in two shapes, or through a part, has a producer for each", () => {
  const graph = chain([
    { op: "Mul", inputs: ["x", "x"], outputs: ["a"] },
    { op: "Reshape", inputs: ["a", "flat"], outputs: ["b"] },
    { op: "Reshape", inputs: ["a", "square"], outputs: ["c"] },
    gelu("b", "y", "slope"),
    { op: "Reshape", inputs: ["slope", "flat"], outputs: ["d"] },
    { op: "Reshape", inputs: ["d", "square"], outputs: ["e"] },
    gelu("c", "y2", "slope2"),
    { op: "Sum", inputs: ["y", "e", "y2", "slope2"], outputs: ["z"] },
  ]);
  for (const part of cutAtKernels(graph)) {
    if (part.kind === "kernel") continue;
    const made = part.nodes.flatMap(({ outputs }) => outputs);
    expect(made).toEqual(expect.arrayContaining(part.writes.map((_, i) => `out${i}`)));
  }
});

test("a value's place is its own until its last reader is done, then another's", () => {
  const graph = chain([
    gelu("x", "a", "da"),
    gelu("a", "b", "db"),
    gelu("b", "c", "dc"),
    { op: "Sum", inputs: ["da", "db", "dc", "c"], outputs: ["z"] },
  ]);
  const parts = cutAtKernels(graph);
  const names = ["a", "da", "b", "db", "c", "dc"];
  const values = new Map(["x", "z", ...names].map((name): [string, OnnxValue] => [name, value(name)]));
  const places = placesOf(parts, values, graph);
  const lives = names.map((name) => ({ name, at: places.values.get(name)!, ...lifeOf(name, parts) }));
  for (const one of lives) {
    for (const other of lives) {
      if (one === other || one.to < other.from || other.to < one.from) continue;
      expect(Math.abs(one.at - other.at), `${one.name}, ${other.name}`).toBeGreaterThanOrEqual(4 * sizeOf([16]));
    }
  }
  expect(places.values.get("c")).toBe(places.values.get("a"));
});

/** x [4, 4] → z. */
function chain(nodes: OnnxNode[]): OnnxGraph {
  return { nodes, inputs: [value("x")], outputs: [value("z")], constants: [extents("flat", [16]), extents("square", [4, 4])] }; // prettier-ignore
}

function extents(name: string, values: number[]): OnnxConstant {
  return { name, type: "int64", shape: [values.length], values };
}

function gelu(x: string, y: string, slope: string): OnnxNode {
  return { op: GELU_WITH_SLOPE, inputs: [x], outputs: [y, slope], domain: KERNELS };
}

function value(name: string): OnnxValue {
  return { name, type: "float32", shape: [4, 4] };
}

function lifeOf(name: string, parts: readonly Part[]): { from: number; to: number } {
  const has = (passed: Part["reads"]): boolean => passed.some((one) => one.name === name);
  return { from: parts.findIndex(({ writes }) => has(writes)), to: parts.findLastIndex(({ reads }) => has(reads)) };
}
