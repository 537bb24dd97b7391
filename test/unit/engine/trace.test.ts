import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { expect, test } from "vitest";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { trace } from "../../../shared/engine/trace.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { presets } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";

const vector = { shape: [4], dtype: "float32" } as const;

test("a step of tiny is 24 nodes a layer and 15 around them, each named op one node", () => {
  const spec = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 } as const;
  const graph = stepGraph("gradient", spec, layoutOf(gptTensors(spec)), 12);
  const counts = new Map<string, number>();
  for (const { op } of graph.nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
  expect(graph.nodes.length).toBe(4 * 24 + 15);
  expect(counts.get("ManyhandsAttention")).toBe(4);
  expect(counts.get("ManyhandsAttentionGrad")).toBe(4);
  expect(counts.get("ManyhandsLayerNormGrad")).toBe(9);
  expect(counts.get("BatchMatMul")).toBe(4 * 12 + 3);
});

test("reading a value while tracing throws", () => {
  expect(() => trace({ x: vector }, ({ x }) => ({ y: tf.scalar(tf.sum(x as tf.Tensor).dataSync()[0] ?? 0) }))).toThrow(
    "do not exist while tracing",
  );
});

test("a kernel without a recorded shape throws its name", () => {
  expect(() => trace({ x: vector }, ({ x }) => ({ y: tf.erf(x as tf.Tensor) }))).toThrow("Erf");
});

test("what no output needs, × 1, + 0 and repeated nodes are not in the graph", () => {
  const graph = trace({ x: vector }, ({ x }) => {
    const given = x as tf.Tensor;
    tf.mul(given, 7);
    const once = tf.add(tf.mul(given, tf.scalar(1)), tf.scalar(0));
    return { y: tf.add(tf.mul(once, once), tf.mul(given, given)) };
  });
  expect(graph.nodes.map(({ op }) => op)).toEqual(["Multiply", "Add"]);
});

test("tracing leaves no tensor, and the caller's backend, behind", async () => {
  await tf.setBackend("cpu");
  const before = tf.memory().numTensors;
  trace({ x: vector }, ({ x }) => ({ y: tf.mul(x as tf.Tensor, 2) }));
  expect(tf.memory().numTensors).toBe(before);
  expect(tf.getBackend()).toBe("cpu");
});
