/**
 * @file A lowered step, ready to run: ONNX Runtime's sessions, kernels of our own between them, and the memory of the values that go
 * from one to another.
 */
import { createHash } from "node:crypto";
import * as ort from "onnxruntime-node";
import { createKernels, GELU_WITH_SLOPE, type Kernels } from "../shared/engine/onnxKernels.ts";
import { cutAtKernels, type KernelPart, type Part, type Passed, type SessionPart } from "../shared/engine/onnxParts.ts";
import { encodeModel, type OnnxGraph, type OnnxValue } from "../shared/engine/onnxProto.ts";
import { type Places, placesOf, sizeOf, SUMS } from "../shared/engine/onnxPlaces.ts";
import { MAX_WASM_PAGES, WASM_PAGE_BYTES } from "../shared/wasm/assembler.ts";
import { runInPlace, withSequenceFirst } from "./inPlace.ts";

type Tensors = Readonly<Record<string, ort.Tensor>>;

export type OnnxStep = {
  /** `inputs` and `outputs` by the graph's names, all of them. Mutates the outputs. */
  readonly run: (inputs: Tensors, outputs: Tensors) => Promise<void>;
  readonly release: () => Promise<void>;
};

/** @throws RangeError when values between parts need more than 4 GiB. */
export async function createOnnxStep(
  graph: OnnxGraph,
  options: ort.InferenceSession.SessionOptions,
): Promise<OnnxStep> {
  const parts = cutAtKernels(graph);
  const values = new Map<string, OnnxValue>(graph.inputs.map((value) => [value.name, value]));
  const sessions = new Map<string, ort.InferenceSession>();
  const sessionOf = new Map<Part, ort.InferenceSession>();
  let places: Places;
  /** The shapes in which parts write their values. */
  const written = new Map<Part, (readonly number[])[]>();
  const release = async (): Promise<void> => {
    for (const session of sessions.values()) await session.release();
    sessions.clear();
  };
  try {
    for (const part of parts) {
      const shapes = part.kind === "kernel" ? shapesOf(part, values) : await prepare(part);
      for (const [i, { name, shape = shapes[i]! }] of part.writes.entries()) {
        values.set(name, { name, type: "float32", shape });
      }
      written.set(part, shapes);
    }
    places = placesOf(parts, values, graph);
    if (places.bytes > MAX_WASM_PAGES * WASM_PAGE_BYTES)
      throw new RangeError(`${places.bytes} bytes between parts of a step`);
  } catch (error) {
    await release();
    throw error;
  }
  const pages = Math.ceil(places.bytes / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const kernels = createKernels(memory);
  /** In the shapes in which each part reads and writes them, where that is not the caller's matter. */
  const tensors = new Map<Passed, ort.Tensor>();
  for (const part of parts) {
    for (const [i, passed] of [...part.reads, ...part.writes].entries()) {
      const address = places.values.get(passed.name);
      if (address === undefined) continue;
      const whole = values.get(passed.name)!.shape;
      const shape = i < part.reads.length ? (passed.shape ?? whole) : written.get(part)![i - part.reads.length]!;
      tensors.set(passed, new ort.Tensor("float32", new Float32Array(memory.buffer, address, sizeOf(whole)), shape));
    }
  }

  async function prepare(part: SessionPart): Promise<(readonly number[])[]> {
    const model = encodeModel(
      withSequenceFirst({
        ...part,
        inputs: part.reads.map(({ name, ...shape }, i) => ({ ...values.get(name)!, ...shape, name: `in${i}` })),
        outputs: part.writes.map((_, i) => ({ name: `out${i}`, type: "float32" })),
      }),
    );
    const key = createHash("sha256").update(model).digest("hex");
    const session = sessions.get(key) ?? (await ort.InferenceSession.create(model, options));
    sessions.set(key, session);
    sessionOf.set(part, session);
    return part.writes.map((_, i) => {
      const found = session.outputMetadata.find(({ name }) => name === `out${i}`);
      if (!found?.isTensor) throw new Error(`output ${i} of a part of the step is no tensor`);
      return found.shape as number[];
    });
  }

  return {
    run: async (inputs, outputs) => {
      const tensorOf = (passed: Passed): ort.Tensor =>
        tensors.get(passed) ?? inputs[passed.name] ?? outputs[passed.name]!;
      for (const part of parts) {
        if (part.kind === "kernel") {
          runKernel(part, kernels, { memory, places, values, tensorOf });
          continue;
        }
        const feeds = Object.fromEntries(part.reads.map((passed, i) => [`in${i}`, tensorOf(passed)]));
        const fetches = Object.fromEntries(part.writes.map((passed, i) => [`out${i}`, tensorOf(passed)]));
        await runInPlace(sessionOf.get(part)!, feeds, fetches);
      }
    },
    release,
  };
}

function shapesOf({ op, reads }: KernelPart, values: ReadonlyMap<string, OnnxValue>): (readonly number[])[] {
  const shape = (i: number): readonly number[] => values.get(reads[i]!.name)!.shape;
  return op === GELU_WITH_SLOPE ? [shape(0), shape(0)] : [shape(1), shape(2)];
}

function runKernel(
  part: KernelPart,
  kernels: Kernels,
  {
    memory,
    places,
    values,
    tensorOf,
  }: {
    memory: WebAssembly.Memory;
    places: Places;
    values: ReadonlyMap<string, OnnxValue>;
    tensorOf: (passed: Passed) => ort.Tensor;
  },
): void {
  const rooms = places.rooms.get(part)!;
  const at = (name: string): number => places.values.get(name) ?? rooms.get(name)!;
  const room = (name: string): Float32Array =>
    new Float32Array(memory.buffer, rooms.get(name), sizeOf(values.get(name)!.shape));
  for (const passed of part.reads) {
    if (rooms.has(passed.name)) room(passed.name).set(tensorOf(passed).data as Float32Array);
  }
  const addresses = part.reads.map(({ name }) => at(name));
  const [first = NaN, second = NaN] = part.writes.map(({ name }) => at(name));
  if (part.op === GELU_WITH_SLOPE) {
    const [x = NaN] = addresses;
    kernels.geluWithSlope(x, sizeOf(values.get(part.reads[0]!.name)!.shape), first, second);
  } else {
    const [dy = NaN, x = NaN, gain = NaN, mean = NaN, inverseDeviation = NaN, addend] = addresses;
    const [rows = 0, width = 0] = values.get(part.reads[1]!.name)!.shape;
    const sums = rooms.get(SUMS)!;
    kernels.layerNormGrad({ dy, x, gain, mean, inverseDeviation, addend, dx: first, dGain: second, sums }, rows, width);
  }
  for (const passed of part.writes) {
    if (rooms.has(passed.name)) (tensorOf(passed).data as Float32Array).set(room(passed.name));
  }
}
