import { expect, test } from "vitest";
import { fuse } from "../../../../shared/engine/wgsl/fuse.ts";
import { writeGraph } from "./graphs.ts";

const limits = { maxBindings: 8 };

test("bias, GELU and a residual ride on the product; only what somebody reads is stored", () => {
  const graph = writeGraph(({ input, node, output }) => {
    const [x, w, b, r] = [input("x", [8, 4]), input("w", [4, 6]), input("b", [6]), input("r", [8, 6])];
    const sum = node("Add", [node("BatchMatMul", [x, w], [8, 6]), b], [8, 6]);
    output("y", node("Add", [node("ManyhandsGelu", [sum], [8, 6]), r], [8, 6]));
    output("sum", sum);
  });
  const { ops } = fuse(graph, limits);
  expect(ops.map(({ core, steps }) => [core.kind, steps.map(({ op }) => op)])).toEqual([
    ["matMul", ["Add", "ManyhandsGelu", "Add"]],
  ]);
  expect(new Set(ops[0]?.stores)).toEqual(new Set([graph.outputs["sum"], graph.outputs["y"]]));
});

test("a step whose other operand is made later than the product has a kernel of its own", () => {
  const graph = writeGraph(({ input, node, output }) => {
    const [x, w] = [input("x", [4, 4]), input("w", [4, 4])];
    const first = node("BatchMatMul", [x, w], [4, 4]);
    const second = node("ManyhandsAttention", [input("qkv", [4, 12])], [4, 4], { batch: 1, context: 4, heads: 1 });
    output("y", node("Add", [first, second], [4, 4]));
  });
  expect(fuse(graph, limits).ops.map(({ core }) => core.kind)).toEqual(["matMul", "attention", "elementwise"]);
});

test("a chain that would need more bindings than a kernel may have is cut", () => {
  const graph = writeGraph(({ input, node, output }) => {
    let sum = input("x0", [4, 4]);
    for (let i = 1; i < 20; i++) sum = node("Add", [sum, input(`x${i}`, [4, 4])], [4, 4]);
    output("y", sum);
  });
  const { ops } = fuse(graph, limits);
  expect(ops.map(({ core }) => core.kind)).toEqual(Array(4).fill("elementwise"));
  // Seven operands and a result: six additions.
  expect(ops.map(({ steps }) => steps.length)).toEqual([6, 6, 6, 1]);
});

test("a sum over rows computes its elementwise input on the way", () => {
  const graph = writeGraph(({ input, node, output }) => {
    const product = node("Multiply", [input("x", [9, 5]), input("y", [9, 5])], [9, 5]);
    output("z", node("Sum", [product], [5], { axis: [0] }));
  });
  const [op, ...rest] = fuse(graph, limits).ops;
  expect(rest).toEqual([]);
  expect(op?.core).toMatchObject({ kind: "columnSum", rows: 9, columns: 5, prologue: [{ op: "Multiply" }] });
});

test("a loss and the gradient of its logits are one op, then a sum", () => {
  const graph = writeGraph(({ input, constant, node, output }) => {
    const [logits, targets] = [input("logits", [6, 5]), input("targets", [6], "int32")];
    output("loss", node("ManyhandsCrossEntropy", [logits, targets], []));
    output("d", node("ManyhandsCrossEntropyGrad", [constant(1), logits, targets], [6, 5]));
  });
  const fused = fuse(graph, limits);
  expect(fused.ops.map(({ core }) => core.kind)).toEqual(["crossEntropy", "columnSum"]);
  expect(fused.ops[0]?.core).toMatchObject({ scale: 1, chunks: [{ dLogits: graph.outputs["d"] }] });
});

test("what has no kernel is named", () => {
  const graph = writeGraph(({ input, node, output }) => output("y", node("Erf", [input("x", [2])], [2])));
  expect(() => fuse(graph, limits)).toThrow('op "Erf" has no WGSL kernel');
  const sum = writeGraph(({ input, node, output }) =>
    output("y", node("Sum", [input("x", [2, 3])], [2], { axis: [1] })),
  );
  expect(() => fuse(sum, limits)).toThrow("a sum over axes 1 has no WGSL kernel");
});
