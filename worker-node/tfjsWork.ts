/**
 * @file What the same step is op by op: tfjs' own WebGPU backend, which chooses its programs as ever, and is not given a device to run
 * them on. For `npm run explain`.
 */
import { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../shared/engine/eager.ts";
import { examinationBatch } from "../shared/engine/examination.ts";
import type { Dispatch } from "../shared/engine/wgsl/plan.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import { type ParamLayout, sizeOf } from "../shared/numerics/layout.ts";

export type Work = Pick<Dispatch, "flops" | "bytes">;

/**
 * Forward and backward, in the order in which tfjs would dispatch them. Nothing is computed, and nothing large allocated. `maxBindings`:
 * how many buffers a kernel may have, which decides how many tensors tfjs joins at once.
 */
export async function tfjsWork({
  spec,
  layout,
  batchSize,
  maxBindings,
}: {
  spec: ModelSpec;
  layout: ParamLayout;
  batchSize: number;
  maxBindings: number;
}): Promise<Work[]> {
  const work: Work[] = [];
  const previous = Object.getOwnPropertyDescriptor(globalThis.navigator, "gpu");
  // The backend looks whether there is WebGPU before it takes the device that it is given.
  Object.defineProperty(globalThis.navigator, "gpu", { value: {}, configurable: true });
  const backend = new Recording(work, maxBindings);
  if (previous) Object.defineProperty(globalThis.navigator, "gpu", previous);
  else Reflect.deleteProperty(globalThis.navigator, "gpu");
  tf.registerBackend("webgpu", () => backend);
  try {
    void tf.setBackend("webgpu");
    const resident = Object.fromEntries(layout.slots.map(({ name, shape }) => [name, backend.tensor(shape)]));
    const engine = await createEagerEngine({ spec, layout, backend: "webgpu", resident });
    await engine.gradient(examinationBatch(spec, batchSize), new Float32Array(0));
    return work;
  } finally {
    tf.removeBackend("webgpu");
  }
}

class Recording extends WebGPUBackend {
  readonly #work: Work[];

  constructor(work: Work[], maxStorageBuffersPerShaderStage: number) {
    // What it reads of a device. The others are WebGPU's defaults.
    const limits = {
      maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupsPerDimension: 65_535,
      maxComputeWorkgroupSizeX: 256,
    };
    const device = { limits, features: new Set(), queue: {} } as unknown as GPUDevice;
    super(device, { vendor: "", architecture: "" } as GPUAdapterInfo);
    this.#work = work;
  }

  tensor(shape: readonly number[]): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.#onDevice(this.makeTensorInfo([...shape], "float32")));
  }

  override runWebGPUProgram(
    program: Parameters<WebGPUBackend["runWebGPUProgram"]>[0],
    inputs: tf.TensorInfo[],
    dtype: tf.DataType,
    _uniforms?: unknown,
    output: tf.TensorInfo = this.makeTensorInfo(program.outputShape, dtype),
  ): tf.TensorInfo {
    for (const tensor of inputs) this.#onDevice(tensor);
    const shapes = [...inputs.map(({ shape }) => shape), output.shape];
    const isProduct = program.constructor.name.startsWith("MatMul");
    const flops = isProduct ? productFlops(inputs[0]?.shape ?? [], output.shape) : Math.max(...shapes.map(sizeOf));
    this.#work.push({ flops, bytes: 4 * shapes.reduce((sum, shape) => sum + sizeOf(shape), 0) });
    return this.#onDevice(output);
  }

  /** Where a value is decides what tfjs computes on the processor instead: small values that are there. */
  #onDevice(tensor: tf.TensorInfo): tf.TensorInfo {
    const data = this.tensorMap.get(tensor.dataId);
    data.resource ??= {} as GPUBuffer;
    data.values = null as unknown as tf.BackendValues;
    return tensor;
  }

  override disposeData(): boolean {
    return true;
  }

  override read(): Promise<tf.BackendValues> {
    return Promise.resolve(new Float32Array(0));
  }

  override dispose(): void {}
}

/** Shapes: a [B or 1, M, K] or its transpose, out [B, M, N]. */
function productFlops(a: readonly number[], out: readonly number[]): number {
  const rows = out.at(-2) ?? 1;
  return (2 * sizeOf(out) * sizeOf(a)) / ((a[0] ?? 1) * rows);
}
