/** @file Runs in the browser: what the tests ask of worker-browser/engine.ts and of the engine it chose. */
import * as tf from "@tensorflow/tfjs-core";
import { encode, encodedBytes } from "../../../shared/codec/codec.ts";
import { presets } from "../../../shared/model/spec.ts";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { sharedDevice } from "../../../worker-browser/backends/device.ts";
import { residentParams } from "../../../worker-browser/backends/webgpu.ts";
import { startCompiledWriter } from "../../../worker-browser/playground/compiledWriter.ts";
import { chooseEngine, COMPILED, type StartedBackend } from "../../../worker-browser/engine.ts";
import { startBackend } from "../../../worker-browser/tfjs.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import { createWgslEngine, type WgslEngine, type WgslEngineOptions } from "../../../shared/engine/wgsl/engine.ts";
import { compile } from "../../../shared/engine/wgsl/plan.ts";
import type { Fallback } from "../../../shared/wire/protocol.ts";
import type { TfjsBackend } from "../../../worker-browser/messages.ts";
import { type EngineCase, engineCase, engineCases, relativeL2 } from "../../support/engineCases.ts";

export type Computed = {
  device: string;
  lossSum: number;
  lossAlone: number;
  tokens: number;
  gradient: number[];
  /** Tensors left behind by a second step. */
  leaked: number;
  fault: string | null;
};

const started = new Map<TfjsBackend, StartedBackend>();

/** Starts the backend as a worker does, its self-check included, and computes an engine case on it. */
async function computeOn(backend: TfjsBackend, caseIndex: number): Promise<Computed> {
  const device = started.get(backend) ?? (await startBackend(backend));
  started.set(backend, device);
  const engineCase = engineCases[caseIndex];
  if (engineCase === undefined) throw new Error(`there is no engine case ${caseIndex}`);
  const { spec, layout, params, batch } = engineCase;
  const engine = await createEagerEngine({ spec, layout, backend });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const before = tf.memory().numTensors;
  const { lossSum, tokens } = await engine.gradient(batch, gradient);
  const leaked = tf.memory().numTensors - before;
  const lossAlone = (await engine.loss(batch)).lossSum;
  await engine.dispose();
  return { device: device.device, lossSum, lossAlone, tokens, gradient: [...gradient], leaked, fault: device.fault() };
}

/** The engine that a worker takes here, on an engine case: the compiled step, where there is WebGPU. */
async function computeAsWorker(
  caseIndex: number,
): Promise<Computed & { compiled: boolean; startMs: number; hostMs: number }> {
  const { spec, layout, params, batch } = engineCases[caseIndex]!;
  const startedMs = performance.now();
  const chosen = await chooseEngine({ spec, layout, batchSize: 2, force: null, avoid: [] });
  const { engine, isCompiled, device, fault } = chosen;
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const startMs = performance.now() - startedMs;
  const { lossSum, tokens } = await engine.gradient(batch, gradient);
  const { hostMs } = (engine as WgslEngine).lastStep();
  const lossAlone = (await engine.loss(batch)).lossSum;
  await engine.dispose();
  return { device, lossSum, lossAlone, tokens, gradient: [...gradient], leaked: 0, fault: fault(), compiled: isCompiled, startMs, hostMs }; // prettier-ignore
}

/** Which backend a worker would take here, and why not the better ones. */
async function choose(
  avoid: readonly Fallback[] = [],
): Promise<{ backend: string; compiled: boolean; device: string; fallbacks: readonly Fallback[] }> {
  const { spec, layout } = engineCases[0]!;
  const { engine, isCompiled, device, fallbacks } = await chooseEngine({
    spec,
    layout,
    batchSize: 2,
    force: null,
    avoid,
  });
  return { backend: engine.backend, compiled: isCompiled, device, fallbacks };
}

/** Starts the backend, then takes its device away; what the started backend says of it. */
async function loseDevice(backend: "webgpu" | "webgl"): Promise<string> {
  const { lost } = await startBackend(backend);
  if (backend === "webgpu") (tf.backend() as unknown as { device: GPUDevice }).device.destroy();
  else (tf.backend() as unknown as { gpgpu: { gl: WebGL2RenderingContext } }).gpgpu.gl.getExtension("WEBGL_lose_context")?.loseContext(); // prettier-ignore
  return lost;
}

/** A shader with an error, as a driver's bug would make one: WebGPU itself throws nothing. */
async function brokenShader(): Promise<string | null> {
  const { fault } = await startBackend("webgpu");
  const { device } = tf.backend() as unknown as { device: GPUDevice };
  device.createShaderModule({ code: "this is not WGSL" });
  await device.queue.onSubmittedWorkDone();
  return fault();
}

/** Replaces a kernel of the backend by one that is a little off, then lets the backend prove itself. */
async function examineWithWrongKernel(backend: TfjsBackend, kernelName: string): Promise<string> {
  await startBackend(backend);
  const kernel = tf.getKernel(kernelName, backend);
  tf.unregisterKernel(kernelName, backend);
  tf.registerKernel({
    ...kernel,
    kernelFunc: (parameters) => {
      const right = tf.engine().makeTensorFromTensorInfo(kernel.kernelFunc(parameters) as tf.TensorInfo);
      return tf.mul(right, 1.01);
    },
  });
  return startBackend(backend).then(
    () => "accepted",
    (error: unknown) => String(error),
  );
}

/** As the tab of a worker whose compiled step was found wrong: tfjs goes on. How many devices there were, and what the last one says. */
async function devicesOfFallback(breakFirst: boolean): Promise<{ devices: number; fault: string | null }> {
  let devices = 0;
  const { prototype } = GPUAdapter;
  const request = Object.getOwnPropertyDescriptor(prototype, "requestDevice")!.value as typeof prototype.requestDevice;
  prototype.requestDevice = function (descriptor) {
    devices += 1;
    return request.call(this, descriptor);
  };
  const { spec, layout, params, batch } = engineCases[0]!;
  const options = { spec, layout, batchSize: 2, force: null };
  const first = await chooseEngine({ ...options, avoid: [] });
  if (breakFirst) (await sharedDevice()).device.createShaderModule({ code: "this is not WGSL" });
  await first.engine.dispose();
  const second = await chooseEngine({ ...options, avoid: [{ backend: "webgpu", reason: `${COMPILED}wrong` }] });
  await second.engine.load(params);
  await second.engine.loss(batch);
  return { devices, fault: second.fault() };
}

export type SharedTheta = {
  /** Of logits of the compiled step against tfjs with a θ of its own, relative; and of attention over the shared θ. */
  logits: number[];
  attention: number[];
  /** Tensors left behind, and bytes that tfjs holds for the shared θ. */
  leaked: number;
  thetaBytes: number;
  /** Of the compiled step, once tfjs has forgotten its tensors. */
  after: number;
  fault: string | null;
};

function bytesInGpu(): number {
  return (tf.memory() as unknown as { numBytesInGPU: number }).numBytesInGPU;
}

/** The compiled step and tfjs over one θ, two versions of it, against tfjs with a copy. */
async function shareTheta(caseIndex: number): Promise<SharedTheta> {
  const { spec, layout, params, batch } = engineCases[caseIndex]!;
  const started = await startBackend("webgpu");
  const before = tf.memory().numTensors;
  const inputs = batch.inputs.slice(0, spec.context);
  const alone = await createEagerEngine({ spec, layout, backend: "webgpu" });
  await alone.load(params);
  await alone.logits(inputs, 1);
  const bytesAlone = bytesInGpu();
  const writer = await startCompiledWriter({ spec, layout, params });
  const result: SharedTheta = { logits: [], attention: [], leaked: 0, thetaBytes: 0, after: 0, fault: null }; // prettier-ignore
  for (const theta of [params, params.map((value) => 0.7 * value)]) {
    await alone.load(theta);
    await writer.load(theta);
    const expected = await alone.logits(inputs, 1);
    result.logits.push(relativeL2(await writer.logits(inputs, 1), expected));
    for (const position of [0, spec.context - 1]) {
      const row = expected.subarray(position * spec.vocabulary, (position + 1) * spec.vocabulary);
      result.logits.push(relativeL2(await writer.logitsAt(inputs, position), row));
    }
    const maps = await alone.attention(inputs, spec.context);
    result.attention.push(relativeL2(await writer.attention(inputs, spec.context), maps));
  }
  await alone.logits(inputs, 1);
  result.thetaBytes = bytesInGpu() - bytesAlone;
  await writer.dispose();
  await alone.dispose();
  result.leaked = tf.memory().numTensors - before;

  const kept = await logitsEngine(engineCases[caseIndex]!);
  await kept.load(params);
  const expected = await kept.logits(inputs, 1);
  const eager = await createEagerEngine({ spec, layout, backend: "webgpu", resident: residentParams(layout, kept) });
  await eager.logits(inputs, 1);
  await eager.dispose();
  // What tfjs makes next would lie in the arena, had it taken that for its own.
  await tf.add(tf.zeros([layout.length]), 1).data();
  result.after = relativeL2(await kept.logits(inputs, 1), expected);
  await kept.dispose();
  return { ...result, fault: started.fault() };
}

async function logitsEngine({ spec, layout }: Pick<EngineCase, "spec" | "layout">): Promise<WgslEngine> {
  const opened = await sharedDevice();
  const planFor: WgslEngineOptions["planFor"] = (kind, batchSize) =>
    compile(stepGraph(kind, spec, layout, batchSize), { layout, limits: limitsOf(opened.device), dropout: 0 });
  return createWgslEngine({ opened, spec, layout, planFor, nowMs: () => performance.now(), logitsOnly: true });
}

/**
 * Milliseconds of JavaScript for a token's logits, in turns: until the call to tfjs returned, everything submitted, and until the
 * compiled step was. Medians of eight, the shaders compiled before.
 */
async function tokenTimes(): Promise<{ compiledMs: number; eagerMs: number }> {
  const { spec, layout, params, batch } = engineCase("tiny", { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 }, 1); // prettier-ignore
  await startBackend("webgpu");
  const compiled = await logitsEngine({ spec, layout });
  await compiled.load(params);
  const eager = await createEagerEngine({
    spec,
    layout,
    backend: "webgpu",
    resident: residentParams(layout, compiled),
  });
  await Promise.all([compiled.logitsAt(batch.inputs, 9), eager.logitsAt(batch.inputs, 9)]);
  const [compiledMs, eagerMs]: [number[], number[]] = [[], []];
  for (let i = 0; i < 8; i++) {
    const startMs = performance.now();
    const token = eager.logitsAt(batch.inputs, 9);
    eagerMs.push(performance.now() - startMs);
    await token;
    await compiled.logitsAt(batch.inputs, 9);
    compiledMs.push(compiled.lastStep().hostMs);
  }
  await eager.dispose();
  await compiled.dispose();
  return { compiledMs: median(compiledMs), eagerMs: median(eagerMs) };
}

/** The engine that a worker takes in a run whose gradients travel as `i8`: how its bytes differ from those of its gradient. */
async function encodeAsWorker(caseIndex: number): Promise<{ fallbacks: readonly Fallback[]; differing: number }> {
  const { spec, layout, params, batch } = engineCases[caseIndex]!;
  const chosen = await chooseEngine({ spec, layout, batchSize: 2, codec: "i8", force: null, avoid: [] });
  const { engine, fallbacks } = chosen;
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const [bytes, payload] = [0, 9].map((fill) => new Uint8Array(encodedBytes("i8", layout.length)).fill(fill));
  encode("i8", gradient, bytes!);
  await engine.encodedGradient!(batch, payload!);
  await engine.dispose();
  return { fallbacks, differing: bytes!.filter((byte, i) => byte !== payload![i]).length };
}

/** Of a training step, op by op, not the first. */
async function dispatchesOpByOp(caseIndex: number): Promise<{ dispatches: number; maxBindings: number }> {
  const { spec, layout, params, batch } = engineCases[caseIndex]!;
  await startBackend("webgpu");
  const engine = await createEagerEngine({ spec, layout, backend: "webgpu" });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const { prototype } = GPUComputePassEncoder;
  const dispatch = Object.getOwnPropertyDescriptor(prototype, "dispatchWorkgroups")!;
  const original = dispatch.value as GPUComputePassEncoder["dispatchWorkgroups"];
  let count = 0;
  prototype.dispatchWorkgroups = function (this: GPUComputePassEncoder, ...size) {
    count++;
    return original.apply(this, size);
  };
  await engine.gradient(batch, gradient);
  Object.defineProperty(prototype, "dispatchWorkgroups", dispatch);
  await engine.dispose();
  return { dispatches: count, maxBindings: limitsOf((await sharedDevice()).device).maxBindings };
}

export type StepCosts = { readonly hostMs: number[]; readonly submits: number };

/**
 * Milliseconds of JavaScript of the compiled step, `tiny` at 12×64 tokens, submitting included: as this device gets it, and by a
 * clock that shows it a fast GPU, which gets one submit.
 */
async function stepCosts(steps: number): Promise<{ here: StepCosts; atOnce: StepCosts }> {
  const { spec, layout, params, batch } = engineCase("tiny", { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 }, 12); // prettier-ignore
  const measure = async (clock: number): Promise<StepCosts> => {
    const engine = await gradientEngine({ spec, layout }, () => performance.now() * clock);
    await engine.load(params);
    const gradient = new Float32Array(layout.length);
    // Until then it is not known how fast the device is.
    await engine.gradient(batch, gradient);
    const hostMs: number[] = [];
    for (let i = 0; i < steps; i++) {
      await engine.gradient(batch, gradient);
      hostMs.push(engine.lastStep().hostMs / clock);
    }
    const { submits } = engine.lastStep();
    await engine.dispose();
    return { hostMs, submits };
  };
  return { here: await measure(1), atOnce: await measure(1e-6) };
}

/** Steps of a model so small that code is warm soon: a step has nothing for each dispatch. In one submit. */
async function startSmallSteps(): Promise<(count: number) => Promise<void>> {
  const { spec, layout, params, batch } = engineCase("small", { kind: "gpt", layers: 1, heads: 1, width: 16, context: 8, vocabulary: 7, bias: false, dropout: 0 }, 1); // prettier-ignore
  const engine = await gradientEngine({ spec, layout }, () => performance.now() * 1e-6);
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  return async (count) => {
    for (let i = 0; i < count; i++) await engine.gradient(batch, gradient);
  };
}

async function gradientEngine(
  { spec, layout }: Pick<EngineCase, "spec" | "layout">,
  nowMs: () => number,
): Promise<WgslEngine> {
  const opened = await sharedDevice();
  const planFor: WgslEngineOptions["planFor"] = (kind, batchSize) =>
    compile(stepGraph(kind, spec, layout, batchSize), { layout, limits: limitsOf(opened.device), dropout: 0 });
  return createWgslEngine({ opened, spec, layout, planFor, nowMs });
}

function median(ms: readonly number[]): number {
  return ms.toSorted((a, b) => a - b)[ms.length >> 1]!;
}

/** Starts WebGPU, then spoils a kernel of tfjs: the compiled step and tfjs cannot both be right. */
async function writerWithWrongKernel(): Promise<string> {
  await startBackend("webgpu");
  const kernel = tf.getKernel("Tanh", "webgpu");
  tf.unregisterKernel("Tanh", "webgpu");
  const spoiled = (parameters: Parameters<typeof kernel.kernelFunc>[0]): tf.TensorInfo =>
    tf.mul(tf.engine().makeTensorFromTensorInfo(kernel.kernelFunc(parameters) as tf.TensorInfo), 1.01);
  tf.registerKernel({ ...kernel, kernelFunc: spoiled });
  const { spec, layout, params } = engineCases[0]!;
  return startCompiledWriter({ spec, layout, params }).then(
    () => "accepted",
    (error: unknown) => String(error),
  );
}

const harness = {
  computeOn,
  computeAsWorker,
  choose,
  loseDevice,
  brokenShader,
  examineWithWrongKernel,
  devicesOfFallback,
  shareTheta,
  tokenTimes,
  stepCosts,
  startSmallSteps,
  encodeAsWorker,
  dispatchesOpByOp,
  writerWithWrongKernel,
};

declare global {
  // oxlint-disable-next-line no-var -- how TypeScript declares globals
  var harness: Harness;
}
type Harness = typeof harness;
globalThis.harness = harness;
