import { expect, test } from "vitest";
import { GELU_WITH_SLOPE, KERNELS } from "../../../shared/engine/onnxKernels.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { type ModelSpec, presets } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { createNodeEngine } from "../../../worker-node/engine.ts";
import { createOnnxEngine } from "../../../worker-node/onnxEngine.ts";
import { createOnnxStep } from "../../../worker-node/onnxStep.ts";
import {
  type EngineCase,
  engineCase,
  engineCases,
  largeCases,
  randomBatch,
  relativeL2,
} from "../../support/engineCases.ts";
import { finiteDifferences, gptLossF64 } from "../../support/gptF64.ts";

test("gradients equal finite differences of a second implementation in f64", async () => {
  const { spec, layout, params, batch } = engineCases[0] as EngineCase;
  const engine = await createOnnxEngine({ spec, layout, threads: 1 });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  const { lossSum } = await engine.gradient(batch, gradient);
  const oracle = (theta: Float64Array) => gptLossF64(spec, layout, theta, batch.inputs, batch.targets);
  const theta = Float64Array.from(params);
  expect(Math.abs(lossSum / oracle(theta) - 1)).toBeLessThan(1e-6);
  for (const { name, offset, size } of layout.slots) {
    const indices = Array.from({ length: 8 }, (_, i) => offset + Math.floor((i * size) / 8));
    const found = indices.map((index) => gradient[index] ?? Number.NaN);
    expect(relativeL2(found, finiteDifferences(oracle, theta, indices)), name).toBeLessThan(1e-5);
  }
  await engine.dispose();
});

test("the same lease gives the same bits, twice and on another engine", async () => {
  const { spec, layout, params, batch } = largeCases[1] as EngineCase;
  const runs: { lossSum: number; bits: Uint32Array }[] = [];
  for (let i = 0; i < 2; i++) {
    const engine = await createOnnxEngine({ spec, layout, threads: 1 });
    await engine.load(params);
    for (let j = 0; j < 2; j++) {
      const gradient = new Float32Array(layout.length).fill(j);
      const { lossSum } = await engine.gradient(batch, gradient);
      runs.push({ lossSum, bits: new Uint32Array(gradient.buffer) });
    }
    await engine.dispose();
  }
  for (const run of runs) expect(run).toEqual(runs[0]);
});

test("with kernels of our own between its sessions, gradients are those of ONNX Runtime's nodes alone, θ's next ones too", async () => {
  for (const { spec, layout, params, batch } of [...engineCases, ...largeCases]) {
    const [own, alone] = [0, Infinity].map((kernelsFrom) =>
      createOnnxEngine({ spec, layout, threads: 1, kernelsFrom }),
    );
    const found: Float32Array[] = [];
    for (const engine of [await own!, await alone!, await own!]) {
      for (const theta of [params, params.map((value) => 0.9 * value)]) {
        await engine.load(theta);
        const gradient = new Float32Array(layout.length).fill(5);
        await engine.gradient(batch, gradient);
        found.push(gradient);
      }
    }
    for (const [i, gradient] of found.entries()) expect(relativeL2(gradient, found[i % 2]!)).toBeLessThan(2e-6);
    expect(found[4]).toEqual(found[0]);
    expect(found[5]).toEqual(found[1]);
    await (await own!).dispose();
    await (await alone!).dispose();
  }
});

test("a step with more between its parts than a memory holds is refused before memory is asked for", async () => {
  const type = { type: "float32", shape: [40_000, 20_000] } as const;
  const graph = {
    nodes: [
      { op: "Abs", inputs: ["x"], outputs: ["a"] },
      { op: GELU_WITH_SLOPE, inputs: ["a"], outputs: ["b", "slope"], domain: KERNELS },
      { op: "Mul", inputs: ["b", "slope"], outputs: ["z"] },
    ],
    inputs: [{ name: "x", ...type }],
    outputs: [{ name: "z", ...type }],
    constants: [],
  };
  await expect(createOnnxStep(graph, { graphOptimizationLevel: "disabled" })).rejects.toThrow(RangeError);
});

test("reads θ and writes gradients in place, in memory shared between threads, and sees θ change without a load", async () => {
  const { spec, layout, params, batch } = engineCases[2] as EngineCase;
  const [theta, gradient] = [sharedView(layout.length), sharedView(layout.length)];
  theta.set(params);
  const engine = await createOnnxEngine({ spec, layout, threads: 1 });
  await engine.load(theta);
  const expected = new Float32Array(layout.length);
  const { lossSum } = await engine.gradient(batch, expected);
  expect((await engine.gradient(batch, gradient)).lossSum).toBe(lossSum);
  expect(Float32Array.from(gradient)).toEqual(expected);
  expect(expected.some((value) => value !== 0)).toBe(true);
  theta[0] = (theta[0] ?? 0) + 1;
  expect((await engine.gradient(batch, gradient)).lossSum).not.toBe(lossSum);
  await engine.dispose();
});

test("a step leaves no copy of the gradient behind", async () => {
  const spec: ModelSpec = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 };
  const { layout, params, batch } = engineCase("tiny", spec, 1);
  const engine = await createOnnxEngine({ spec, layout, threads: 1 });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const grownBytes: number[] = [];
  for (let step = 0; step < 5; step++) {
    const before = process.memoryUsage().arrayBuffers;
    await engine.gradient(batch, gradient);
    grownBytes.push(process.memoryUsage().arrayBuffers - before);
  }
  // The garbage collector may hide one step's, not all of them.
  expect(Math.max(...grownBytes)).toBeLessThan(gradient.byteLength / 4);
  await engine.dispose();
});

test("more batch sizes than it keeps sessions for", async () => {
  const { spec, layout, params } = engineCases[4] as EngineCase;
  const engine = await createOnnxEngine({ spec, layout, threads: 1 });
  await engine.load(params);
  const losses: number[] = [];
  for (const batchSize of [1, 2, 3, 4, 5, 6, 1])
    losses.push((await engine.loss(randomBatch(spec, batchSize, 8))).lossSum);
  expect(losses.at(-1)).toBe(losses[0]);
  await engine.dispose();
});

test("a GPT of GPT-2's shape at another size compiles and its loss is ln V when fresh weights are 0", async () => {
  const spec = { ...(engineCases[0] as EngineCase).spec, bias: true, width: 24, context: 40, vocabulary: 70 };
  const layout = layoutOf(gptTensors(spec));
  const { engine, fallbacks } = await createNodeEngine({ spec, layout, threads: 1, preference: "auto" });
  expect(engine.backend).toBe("onnx");
  expect(fallbacks).toEqual([]);
  await engine.load(new Float32Array(layout.length));
  const { lossSum, tokens } = await engine.loss(randomBatch(spec, 2, 1));
  expect(lossSum / tokens).toBeCloseTo(Math.log(70), 5);
  await engine.dispose();
});

test("an engine that does not start is named with its reason, and the next one taken; asked for by name it throws", async () => {
  const { spec, layout } = engineCases[0] as EngineCase;
  const options = { spec, layout, threads: -1 };
  const { engine, fallbacks } = await createNodeEngine({ ...options, preference: "auto" });
  expect(engine.backend).toBe("wasm");
  expect(fallbacks.map(({ backend }) => backend)).toEqual(["onnx"]);
  expect(fallbacks[0]?.reason).toMatch(/intraOpNumThreads/i);
  await expect(createNodeEngine({ ...options, preference: "onnx" })).rejects.toThrow(/intraOpNumThreads/i);
  await engine.dispose();
});

/** Not at the start of its buffer, so that a lost offset shows. */
function sharedView(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(4 * (length + 256)), 1024, length);
}
