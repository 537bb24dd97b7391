/** @file Runs in the browser: what the tests ask of worker-browser/engine.ts and of the engine it chose. */
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { chooseEngine, type StartedBackend } from "../../../worker-browser/engine.ts";
import { startBackend } from "../../../worker-browser/tfjs.ts";
import type { WgslEngine } from "../../../shared/engine/wgsl/engine.ts";
import type { Fallback } from "../../../shared/wire/protocol.ts";
import type { TfjsBackend } from "../../../worker-browser/messages.ts";
import { engineCases } from "../../support/engineCases.ts";

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

const harness = { computeOn, computeAsWorker, choose, loseDevice, brokenShader, examineWithWrongKernel };

declare global {
  // oxlint-disable-next-line no-var -- how TypeScript declares globals
  var harness: Harness;
}
type Harness = typeof harness;
globalThis.harness = harness;
