/** @file Single kernels of the compiled step: optimizers and codec against the CPU's, cut vocabularies, and planted bugs. */
import { afterAll, describe, expect } from "vitest";
import { encoded } from "../../../shared/codec/codec.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { arenaSegments } from "../../../shared/engine/wgsl/arenas.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import { encodedWords, encodeI8Kernel } from "../../../shared/engine/wgsl/kernels/blockInt.ts";
import { createOptimizer, type OptimizerStep } from "../../../shared/engine/wgsl/optimizer.ts";
import { compile, type PlanLimits } from "../../../shared/engine/wgsl/plan.ts";
import { compilePipeline, USAGE } from "../../../shared/engine/wgsl/replay.ts";
import { adamw } from "../../../shared/numerics/adamw.ts";
import { clipScale, squaredNorm } from "../../../shared/numerics/norm.ts";
import { createOnnxEngine } from "../../../worker-node/onnxEngine.ts";
import { createEngineOn } from "../../../worker-node/webgpuEngine.ts";
import { gpuTest, testDevice } from "../../support/dawn.ts";
import { type EngineCase, engineCase, engineCases, relativeL2 } from "../../support/engineCases.ts";
import { randomParams, smallLayout } from "../../support/smallModel.ts";

const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;

async function upload(values: Float32Array<ArrayBuffer>): Promise<GPUBuffer> {
  const { device } = await testDevice();
  const buffer = device.createBuffer({ size: values.byteLength, usage });
  device.queue.writeBuffer(buffer, 0, values);
  return buffer;
}

async function download(buffer: GPUBuffer): Promise<ArrayBuffer> {
  const { device } = await testDevice();
  const target = device.createBuffer({ size: buffer.size, usage: USAGE.mapRead | USAGE.copyTarget });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, target, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await target.mapAsync(1);
  const bytes = target.getMappedRange().slice(0);
  target.destroy();
  return bytes;
}

/** θ and moments after three steps of gradients of which each is clipped but the last. */
async function optimized(kind: OptimizerStep["kind"], steps: readonly OptimizerStep[]): Promise<Float32Array[]> {
  const { device } = await testDevice();
  const layout = smallLayout;
  // Cut into buffers, so that the norm is one over several.
  const segments = arenaSegments(layout, 4 * 140_000);
  expect(segments.length).toBeGreaterThan(1);
  const cut = (flat: Float32Array) => Promise.all(segments.map(({ start, end }) => upload(flat.slice(start, end))));
  const params = await cut(randomParams(layout, 1, 0.1));
  const gradients = await cut(new Float32Array(layout.length));
  const optimizer = await createOptimizer(device, kind, { layout, segments, params, gradients });
  expect(optimizer.dispatches).toBe(2 * segments.length);
  for (const [i, step] of steps.entries()) {
    const gradient = randomParams(layout, 10 + i, 3);
    for (const [j, { start, end }] of segments.entries()) {
      device.queue.writeBuffer(gradients[j]!, 0, gradient.slice(start, end));
    }
    const encoder = device.createCommandEncoder();
    optimizer.record(encoder, step);
    device.queue.submit([encoder.finish()]);
  }
  const whole = async (buffers: readonly GPUBuffer[]) => {
    const flat = new Float32Array(layout.length);
    for (const [i, { start }] of segments.entries()) flat.set(new Float32Array(await download(buffers[i]!)), start);
    return flat;
  };
  const results = [await whole(params)];
  for (const i of optimizer.state[0]!.keys()) results.push(await whole(optimizer.state.map((moments) => moments[i]!)));
  optimizer.dispose();
  return results;
}

const common = { learningRate: 0.01, gradientScale: 1 / 500 } as const;
const clipNorms = [0.5, 0.25, 0];

gpuTest("AdamW on the device is AdamW of shared/numerics, clipping and decay included", async () => {
  const config = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1 };
  const steps = clipNorms.map((clipNorm, i): OptimizerStep => ({ kind: "adamw", ...common, ...config, clipNorm, step: i + 1 })); // prettier-ignore
  const found = await optimized("adamw", steps);
  const [params, m, v] = [randomParams(smallLayout, 1, 0.1), ...[0, 1].map(() => new Float32Array(smallLayout.length))];
  for (const [i, clipNorm] of clipNorms.entries()) {
    const gradient = randomParams(smallLayout, 10 + i, 3);
    const clip = clipScale(Math.sqrt(squaredNorm(gradient)) * common.gradientScale, clipNorm);
    const scaled = { ...common, gradientScale: common.gradientScale * clip };
    adamw({ params: params, m: m!, v: v! }, gradient, { ...config, ...scaled, step: i + 1 }, smallLayout);
  }
  for (const [i, expected] of [params, m!, v!].entries()) expect(relativeL2(found[i]!, expected)).toBeLessThan(1e-6);
});

gpuTest("Nesterov on the device is the formula's", async () => {
  const momentum = 0.9;
  const [params, velocity] = await optimized(
    "nesterov",
    clipNorms.map((clipNorm): OptimizerStep => ({ kind: "nesterov", ...common, clipNorm, momentum })),
  );
  const p = Float64Array.from(randomParams(smallLayout, 1, 0.1));
  const v = new Float64Array(p.length);
  for (const [i, clipNorm] of clipNorms.entries()) {
    const gradient = randomParams(smallLayout, 10 + i, 3);
    const scale = common.gradientScale * clipScale(Math.sqrt(squaredNorm(gradient)) * common.gradientScale, clipNorm);
    for (let j = 0; j < p.length; j++) {
      v[j] = momentum * v[j]! + scale * gradient[j]!;
      p[j]! -= common.learningRate * (scale * gradient[j]! + momentum * v[j]!);
    }
  }
  expect(relativeL2(params!, p)).toBeLessThan(1e-6);
  expect(relativeL2(velocity!, v)).toBeLessThan(1e-6);
});

gpuTest(
  "i8 on the device has the bits of the codec: ties, powers of two, zeros, tiny and huge blocks, a last odd block",
  async () => {
    const { device } = await testDevice();
    const values = new Float32Array(256 * 13);
    const random = randomParams(smallLayout, 3, 1);
    for (let i = 0; i < values.length; i++) {
      const block = i >> 8;
      const spread = random[i]!;
      values[i] = [spread, Math.round(spread * 4) / 2, 0, spread * 1e-38, spread * 1e30, 127 * 2 ** -9, -64, spread * 2 ** 40][block % 8]!; // prettier-ignore
    }
    values.set([127, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5], 8 * 256);
    const expected = encoded("i8", values);
    const { exponents, quants } = encodedWords(values.length);
    const buffers = [
      await upload(values),
      device.createBuffer({ size: 4 * exponents, usage }),
      device.createBuffer({ size: 4 * quants, usage }),
    ];
    const { wgsl, workgroups } = encodeI8Kernel(values.length);
    const pipeline = await compilePipeline(device, wgsl, "encode i8");
    const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...workgroups);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const blocks = values.length / 256;
    expect(new Uint8Array(await download(buffers[1]!)).subarray(0, blocks)).toEqual(expected.subarray(0, blocks));
    expect(new Uint8Array(await download(buffers[2]!))).toEqual(expected.subarray(blocks));
  },
);

const small = { kind: "gpt", layers: 1, heads: 1, bias: false, dropout: 0 } as const;

/** The gradient, and behind it the loss. */
async function reference({ spec, layout, params, batch }: EngineCase): Promise<Float32Array> {
  const onnx = await createOnnxEngine({ spec, layout, threads: 1 });
  await onnx.load(params);
  const gradient = new Float32Array(layout.length);
  const { lossSum } = await onnx.gradient(batch, gradient);
  await onnx.dispose();
  const whole = new Float32Array(layout.length + 1);
  whole.set(gradient);
  whole[layout.length] = lossSum;
  return whole;
}

describe.each([
  {
    name: "vocabulary 200",
    given: engineCase("", { ...small, width: 12, context: 9, vocabulary: 200 }, 3),
    limit: 64 * 4 * 30,
  },
  {
    name: "vocabulary 50,257",
    given: engineCase("", { ...small, width: 8, context: 5, vocabulary: 50_257 }, 2),
    limit: 2 ** 20,
  },
])("$name in chunks, with bindings of $limit bytes", ({ given, limit }) => {
  gpuTest("computes the loss and the gradients of the whole", async () => {
    const { spec, layout, params, batch } = given;
    const opened = await testDevice();
    const limits: PlanLimits = { ...limitsOf(opened.device), maxBindingBytes: limit };
    const engine = await createEngineOn(opened, { spec, layout, limits });
    await engine.load(params);
    const gradient = new Float32Array(layout.length);
    const { lossSum } = await engine.gradient(batch, gradient);
    const { dispatches } = (await engine.replayFor("gradient", batch.batchSize)).plan;
    expect(dispatches.filter(({ name }) => name.startsWith("crossEntropyGrad")).length).toBeGreaterThan(1);
    const expected = await reference(given);
    expect(relativeL2(gradient, expected.subarray(0, layout.length))).toBeLessThan(1e-5);
    expect(relativeL2([lossSum], expected.subarray(layout.length))).toBeLessThan(3e-6);
    await engine.dispose();
  });
});

/** One change to a kernel's text, as a slip of the hand would make it. */
const bugs: readonly { kernel: string; from: string | RegExp; to: string }[] = [
  { kernel: "elementwise", from: /\+ (b\d)\[/, to: "- $1[" },
  { kernel: "matMul", from: "fma(vec4<f32>(a0[0]), d0, c0_0)", to: "fma(vec4<f32>(a0[1]), d0, c0_0)" },
  { kernel: "layerNorm ", from: "let d = held[p] - mean", to: "let d = held[p]" },
  { kernel: "layerNormGrad", from: "normalised[p] * means.y", to: "normalised[p] * means.x" },
  { kernel: "columnSum", from: "own += ", to: "own += 0.5f * " },
  { kernel: "crossEntropy", from: "difference = p - ", to: "difference = p + " },
  { kernel: "attention ", from: "(key0) <= queries", to: "(key0) < queries" },
  { kernel: "attentionGrad queries", from: " - parallel)", to: ")" },
  { kernel: "attentionGrad keys", from: "(query0) >= keys", to: "(query0) > keys" },
  { kernel: "embeddingGrad", from: "n < end", to: "n + 1u < end" },
  { kernel: "GELU", from: "(1.0) - s)", to: "(1.0) + s)" },
  { kernel: "dropout", from: "h >> 13u", to: "h >> 12u" },
];

describe("a planted bug is caught", () => {
  const given = engineCases[1]!;
  const compiled = new Map<string, GPUComputePipeline>();
  let expected: Float32Array | undefined;
  afterAll(() => compiled.clear());

  for (const { kernel, from, to } of [{ kernel: "none", from: "", to: "" }, ...bugs]) {
    gpuTest(`in ${kernel}`, async () => {
      const { spec, layout, params, batch } = given;
      const opened = await testDevice();
      const graph = stepGraph("gradient", spec, layout, batch.batchSize);
      const plan = compile(graph, { layout, limits: limitsOf(opened.device), dropout: spec.dropout });
      const named = (i: number) =>
        plan.dispatches.some(({ pipeline, name }) => pipeline === i && name.startsWith(kernel));
      const planted = plan.pipelines.findIndex((code, i) => (named(i) || !/^[a-z]/.test(kernel) || kernel === "dropout") && (typeof from === "string" ? code.includes(from) : from.test(code))); // prettier-ignore
      const pipelines = plan.pipelines.map((code, i) => (i === planted ? code.replace(from, to) : code));
      const engine = await createEngineOn(opened, { spec, layout, compiled, planFor: () => ({ ...plan, pipelines }) });
      await engine.load(params);
      const gradient = new Float32Array(layout.length);
      const { lossSum } = await engine.gradient(batch, gradient);
      await engine.dispose();
      expected ??= await reference(given);
      const error = Math.max(
        relativeL2(gradient, expected.subarray(0, layout.length)),
        relativeL2([lossSum], expected.subarray(layout.length)),
      );
      if (kernel === "none") {
        expect(error).toBeLessThan(1e-5);
      } else {
        expect(pipelines[planted], "the text to change is not there").not.toBe(plan.pipelines[planted]);
        expect(planted).toBeGreaterThanOrEqual(0);
        // Negated, so that NaN counts as caught.
        expect(error < 1e-3).toBe(false);
      }
    });
  }
});
