import { expect, test } from "vitest";
import type { Graph } from "../../../../shared/engine/graph.ts";
import { fuse } from "../../../../shared/engine/wgsl/fuse.ts";
import { shareStorage } from "../../../../shared/engine/wgsl/storage.ts";
import { writeGraph } from "./graphs.ts";

function shared(graph: Graph): (a: number, b: number) => boolean {
  const fixed = new Set([...Object.values(graph.inputs), ...Object.values(graph.outputs)]);
  const { storageOf } = shareStorage(fuse(graph, { maxBindings: 8 }), (id) => fixed.has(id));
  return (a, b) => storageOf(a) === storageOf(b);
}

test("a residual that nobody needs again is overwritten by the sum; a factor of the product never is", () => {
  let [factor, residual, sum] = [-1, -1, -1];
  const graph = writeGraph(({ input, node, output }) => {
    const [x, w] = [input("x", [4, 4]), input("w", [4, 4])];
    factor = node("BatchMatMul", [x, w], [4, 4]);
    residual = node("BatchMatMul", [w, x], [4, 4]);
    sum = node("Add", [node("BatchMatMul", [factor, w], [4, 4]), residual], [4, 4]);
    output("y", node("BatchMatMul", [sum, w], [4, 4]));
  });
  const same = shared(graph);
  expect(same(sum, residual)).toBe(true);
  expect(same(sum, factor)).toBe(false);
});

test("a residual that is read later keeps its memory, and so do inputs", () => {
  let [residual, sum] = [-1, -1];
  const graph = writeGraph(({ input, node, output }) => {
    const [x, w] = [input("x", [4, 4]), input("w", [4, 4])];
    residual = node("BatchMatMul", [x, w], [4, 4]);
    sum = node("Add", [node("BatchMatMul", [w, x], [4, 4]), residual], [4, 4]);
    output("y", node("Add", [node("BatchMatMul", [sum, residual], [4, 4]), x], [4, 4]));
  });
  const same = shared(graph);
  expect(same(sum, residual)).toBe(false);
  expect(same(graph.outputs["y"] ?? -1, graph.inputs["x"] ?? -1)).toBe(false);
});
