/**
 * @file Records what tfjs would run. A tfjs backend whose kernels compute nothing, only note themselves: run a model and its
 * tfjs gradient on it once, with fixed shapes, and the notes are the whole training step as a static graph.
 */
import * as tf from "@tensorflow/tfjs-core";
import { type Attributes, byName, namedOps, type TensorSpec } from "../model/ops/op.ts";
import { type Graph, type GraphNode, simplify, type ValueId } from "./graph.ts";

const BACKEND = "manyhands-trace";

type Kernel = (inputs: readonly TensorSpec[], attributes: Attributes) => readonly TensorSpec[];

/**
 * The graph of `build`, simplified. `build` gets one placeholder for each input and returns the outputs by name; it must be
 * synchronous, and reading a placeholder's values throws.
 */
export function trace(
  inputs: Readonly<Record<string, TensorSpec>>,
  build: (inputs: Readonly<Record<string, tf.Tensor>>) => Readonly<Record<string, tf.Tensor>>,
): Graph {
  const recorder = new Recorder();
  const registered: tf.KernelConfig[] = [];
  const previous = tf.engine().backendName;
  tf.registerBackend(BACKEND, () => recorder);
  void tf.setBackend(BACKEND);
  tf.engine().startScope();
  try {
    for (const [kernelName, kernel] of [...Object.entries(plainKernels), ...namedKernels()]) {
      const config = kernelConfig(kernelName, kernel, recorder);
      tf.registerKernel(config);
      registered.push(config);
    }
    const placeholders = Object.fromEntries(
      Object.entries(inputs).map(([name, spec]) => [name, recorder.tensor(recorder.add(spec), spec)]),
    );
    const idsOf = (tensors: Readonly<Record<string, tf.Tensor>>) =>
      Object.fromEntries(Object.entries(tensors).map(([name, { dataId }]) => [name, recorder.idOf(dataId)]));
    const ends = { inputs: idsOf(placeholders), outputs: idsOf(build(placeholders)) };
    return simplify({ ...ends, ...recorder.recording() });
  } finally {
    tf.engine().endScope();
    for (const { kernelName } of registered) tf.unregisterKernel(kernelName, BACKEND);
    if (previous) void tf.setBackend(previous);
    tf.removeBackend(BACKEND);
  }
}

/** Shapes of the tfjs kernels that models and gradients use between the named ops. */
const plainKernels: Readonly<Record<string, Kernel>> = {
  Add: ([a, b]) => [broadcast(a, b)],
  Multiply: ([a, b]) => [broadcast(a, b)],
  Identity: ([x]) => [given(x)],
  Reshape: ([x], { shape }) => [{ shape: inferredShape(given(x).shape, shape as number[]), dtype: given(x).dtype }],
  Sum: ([x], { axis, keepDims }) => {
    const { shape, dtype } = given(x);
    const axes = tf.util.parseAxisParam(axis as number[], [...shape]);
    const kept = shape.map((extent, i) => (axes.includes(i) ? 1 : extent));
    return [{ shape: keepDims === true ? kept : shape.filter((_, i) => !axes.includes(i)), dtype }];
  },
  BatchMatMul: ([a, b], { transposeA, transposeB }) => {
    const [left, right] = [given(a).shape, given(b).shape];
    const rows = left.at(transposeA === true ? -1 : -2) ?? 1;
    const columns = right.at(transposeB === true ? -2 : -1) ?? 1;
    return [{ shape: [...left.slice(0, -2), rows, columns], dtype: "float32" }];
  },
};

function namedKernels(): [string, Kernel][] {
  return Array.from(namedOps(), (op) => [op.name, (inputs, attributes) => op.outputs(byName(op, inputs), attributes)]);
}

function kernelConfig(kernelName: string, kernel: Kernel, recorder: Recorder): tf.KernelConfig {
  return {
    kernelName,
    backendName: BACKEND,
    kernelFunc: ({ inputs, attrs }) => {
      // Some kernels get a list, some a record in the order of their arguments; both are lists of what was given.
      const tensors = Object.values(inputs) as tf.TensorInfo[];
      const attributes = (attrs ?? {}) as Attributes;
      const specs = kernel(tensors.map(specOf), attributes);
      const ids = recorder.record(
        kernelName,
        tensors.map(({ dataId }) => recorder.idOf(dataId)),
        specs,
        attributes,
      );
      const infos = specs.map((spec, i) => recorder.info(ids[i] ?? -1, spec));
      // tfjs hands a list on as a list.
      return infos.length === 1 && infos[0] ? infos[0] : infos;
    },
  };
}

class Recorder extends tf.KernelBackend {
  readonly #values: TensorSpec[] = [];
  readonly #nodes: GraphNode[] = [];
  readonly #constants = new Map<ValueId, number>();
  readonly #ids = new Map<object, ValueId>();

  add(spec: TensorSpec): ValueId {
    return this.#values.push(spec) - 1;
  }

  idOf(dataId: object): ValueId {
    const id = this.#ids.get(dataId);
    if (id === undefined) throw new Error("a tensor from another backend was used while tracing");
    return id;
  }

  info(id: ValueId, { shape, dtype }: TensorSpec): tf.TensorInfo {
    const dataId = {};
    this.#ids.set(dataId, id);
    return { dataId, shape: [...shape], dtype };
  }

  tensor(id: ValueId, spec: TensorSpec): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.info(id, spec));
  }

  record(op: string, inputs: ValueId[], specs: readonly TensorSpec[], attributes: Attributes): ValueId[] {
    const outputs = specs.map((spec) => this.add(spec));
    this.#nodes.push({ op, inputs, outputs, attributes });
    return outputs;
  }

  recording(): Pick<Graph, "values" | "nodes" | "constants"> {
    return { values: this.#values, nodes: this.#nodes, constants: this.#constants };
  }

  /** A constant made while tracing: only those with one value throughout are known to graphs. */
  override write(values: tf.BackendValues | null, shape: number[], dtype: tf.DataType): object {
    const [first = 0, ...rest] = Array.from(values as ArrayLike<number>);
    if (rest.some((value) => value !== first)) throw new Error(`a constant [${shape.join()}] is not uniform`);
    const spec = { shape, dtype: floatOrInt(dtype) };
    const id = this.add(spec);
    this.#constants.set(id, first);
    return this.info(id, spec).dataId;
  }

  override readSync(): never {
    throw new Error("the values of a tensor do not exist while tracing");
  }

  override read(): never {
    return this.readSync();
  }

  override numDataIds(): number {
    return this.#ids.size;
  }

  /** Recorded values outlive their tensors. */
  override disposeData(): boolean {
    return true;
  }

  override refCount(): number {
    return 1;
  }

  override incRef(): void {}

  decRef(): void {}

  override floatPrecision(): 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: true };
  }

  override dispose(): void {}
}

function given(spec: TensorSpec | undefined): TensorSpec {
  if (!spec) throw new Error("a kernel was called without an input");
  return spec;
}

function specOf({ shape, dtype }: tf.TensorInfo): TensorSpec {
  return { shape, dtype: floatOrInt(dtype) };
}

function floatOrInt(dtype: tf.DataType): "float32" | "int32" {
  if (dtype !== "float32" && dtype !== "int32") throw new Error(`a ${dtype} tensor cannot be traced`);
  return dtype;
}

function broadcast(a: TensorSpec | undefined, b: TensorSpec | undefined): TensorSpec {
  const { shape, dtype } = given(a);
  return { shape: tf.broadcast_util.assertAndGetBroadcastShape([...shape], [...given(b).shape]), dtype };
}

function inferredShape(from: readonly number[], to: readonly number[]): number[] {
  return tf.util.inferFromImplicitShape([...to], tf.util.sizeFromShape([...from]));
}
