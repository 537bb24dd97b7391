import { expect, test } from "vitest";
import { cleanUp } from "../../../../shared/engine/wgsl/cleanUp.ts";
import { writeGraph } from "./graphs.ts";

test("a reshape, a cast to the same type and a copy are other names, also of an output", () => {
  const graph = cleanUp(
    writeGraph(({ input, node, output }) => {
      const x = input("x", [2, 6]);
      const sum = node("Add", [node("Reshape", [node("Cast", [x], [2, 6])], [3, 4]), x], [12]);
      output("y", node("Identity", [sum], [12]));
    }),
  );
  expect(graph.nodes.map(({ op, inputs }) => [op, inputs])).toEqual([["Add", [0, 0]]]);
  expect(graph.outputs["y"]).toBe(graph.nodes[0]?.outputs[0]);
});

test("a mask becomes a key for each sample, and its reader learns how many elements a sample has", () => {
  const graph = cleanUp(
    writeGraph(({ input, node, output }) => {
      const qkv = input("qkv", [2 * 3, 12]);
      const attention = node("ManyhandsAttention", [qkv], [6, 4], { batch: 2, context: 3, heads: 1 });
      output("y", node("ManyhandsDropout", [attention, input("mask:h.0", [6, 4])], [6, 4]));
    }),
  );
  const key = graph.inputs["keys:h.0"] ?? -1;
  expect(graph.inputs["mask:h.0"]).toBeUndefined();
  expect(graph.values[key]).toEqual({ shape: [2], dtype: "int32" });
  expect(graph.nodes[1]?.attributes["perSample"]).toBe(12);
});
