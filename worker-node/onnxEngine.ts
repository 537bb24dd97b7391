/**
 * @file The compiled engine: the traced step as an ONNX model, run by onnxruntime-node. `run` blocks its thread, so the caller
 * keeps this in a worker thread. θ is read, and gradients are written, in place: ORT tensors are views of the flat arrays.
 */
import * as ort from "onnxruntime-node";
import { checkBatch, checkInputs, masksFor, maskShapes } from "../shared/engine/batch.ts";
import type { Batch, Engine } from "../shared/engine/engine.ts";
import { lowerToOnnx } from "../shared/engine/onnx.ts";
import { stepGraph } from "../shared/engine/stepGraph.ts";
import { GRADIENT, MASK, PARAM, type StepKind } from "../shared/engine/stepKind.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import { createOnnxStep, type OnnxStep } from "./onnxStep.ts";
import { type Provider, providersHere } from "./providers.ts";

/**
 * Sizes differ now and then: the examination's, the last of an epoch, of an evaluation. A session holds its activations, so old ones go;
 * one for gradients holds the most, and making it again costs about a step.
 */
const MAX_STEPS: Readonly<Record<StepKind, number>> = { gradient: 1, loss: 2, logits: 2 };

/** Both kernels together, measured at `tiny` (98 and 393 thousand elements, as fast without) and `small` (0.8 and 3 million). */
const KERNELS_FROM = 512 * 1024;

export type OnnxEngineOptions = {
  readonly spec: ModelSpec;
  readonly layout: ParamLayout;
  readonly threads: number;
  /** What runs the graph, the processor unless said otherwise; what it has no kernel for, the processor runs. */
  readonly provider?: Provider;
  /** Elements from which values go to kernels of our own: with fewer, going from session to session takes longer than they save. */
  readonly kernelsFrom?: number;
  /** Overrides of the session options, for benchmarks. */
  readonly session?: ort.InferenceSession.SessionOptions;
};

export async function createOnnxEngine({
  spec,
  layout,
  threads,
  provider = "cpu",
  kernelsFrom = KERNELS_FROM,
  session = {},
}: OnnxEngineOptions): Promise<Engine> {
  // ONNX Runtime itself would go on with the processor.
  const here = provider === "cpu" ? [provider] : await providersHere();
  if (!here.includes(provider))
    throw new Error(`this machine's ONNX Runtime has no ${provider}, only ${here.join(", ")}`);
  const steps: Readonly<Record<StepKind, Map<number, Promise<OnnxStep>>>> = {
    gradient: new Map(),
    loss: new Map(),
    logits: new Map(),
  };
  let params: Record<string, ort.Tensor> | undefined;

  const options: ort.InferenceSession.SessionOptions = {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    executionProviders: provider === "cpu" ? ["cpu"] : [provider, "cpu"],
    // The lowering has done what helps; "all" would undo the transposes it made on purpose.
    graphOptimizationLevel: "disabled",
    // One block planned for all activations comes on top of the arena that the first run has filled without it: 40 MB more for
    // a step of 768 tokens, and not measurably faster.
    enableMemPattern: false,
    logSeverityLevel: 3,
    ...session,
  };
  const create = async (kind: StepKind, batchSize: number): Promise<OnnxStep> => {
    const graph = stepGraph(kind, spec, layout, batchSize);
    // On another device than the processor, values would have to come here and go back; and each session has threads of its own, which
    // turn idly while the next one computes.
    const kernels = provider === "cpu" && threads === 1 ? { kernelsFrom } : {};
    try {
      return await createOnnxStep(lowerToOnnx(graph, kernels), options);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return createOnnxStep(lowerToOnnx(graph), options);
    }
  };
  const stepFor = async (kind: StepKind, batchSize: number): Promise<OnnxStep> => {
    const created = steps[kind].get(batchSize) ?? create(kind, batchSize);
    steps[kind].delete(batchSize);
    steps[kind].set(batchSize, created); // last = most recently used
    const [oldest] = steps[kind].keys();
    if (steps[kind].size > MAX_STEPS[kind] && oldest !== undefined) {
      const evicted = steps[kind].get(oldest);
      steps[kind].delete(oldest);
      await (await evicted)?.release();
    }
    return created;
  };
  const loaded = (): Record<string, ort.Tensor> => {
    if (!params) throw new Error("load() was not called before computing");
    return params;
  };
  /** One ORT tensor per parameter, each a view of the flat array. */
  const views = (prefix: string, flat: Float32Array): Record<string, ort.Tensor> =>
    Object.fromEntries(
      layout.slots.map(({ name, shape, offset, size }) => [
        prefix + name,
        new ort.Tensor("float32", flat.subarray(offset, offset + size), shape),
      ]),
    );

  // Fails here, not in the first step, where the machine cannot run ONNX Runtime.
  await stepFor("loss", 1);

  return {
    backend: "onnx",
    load: (theta) => {
      if (theta.length !== layout.length)
        throw new RangeError(`θ has ${theta.length} values, the layout ${layout.length}`);
      params = views(PARAM, theta);
      return Promise.resolve();
    },

    gradient: async (batch, gradient) => {
      const tokens = checkBatch(spec, batch);
      const step = await stepFor("gradient", batch.batchSize);
      // Should a run ever end without having written its outputs, this is what shows it.
      const loss = new Float32Array([Number.NaN]);
      clearPadding(layout, gradient);
      await step.run(
        { ...loaded(), ...tokenTensors(batch), ...maskTensors(spec, batch) },
        { loss: new ort.Tensor("float32", loss, []), ...views(GRADIENT, gradient) },
      );
      return { lossSum: loss[0] ?? Number.NaN, tokens };
    },

    loss: async (batch) => {
      const tokens = checkBatch(spec, batch);
      const loss = new Float32Array([Number.NaN]);
      const step = await stepFor("loss", batch.batchSize);
      await step.run({ ...loaded(), ...tokenTensors(batch) }, { loss: new ort.Tensor("float32", loss, []) });
      return { lossSum: loss[0] ?? Number.NaN, tokens };
    },

    logits: async (inputs, batchSize) => {
      checkInputs(spec, inputs, batchSize);
      const step = await stepFor("logits", batchSize);
      const logits = new Float32Array(inputs.length * spec.vocabulary).fill(Number.NaN);
      const shape = [inputs.length, spec.vocabulary];
      await step.run(
        { ...loaded(), inputs: new ort.Tensor("int32", inputs, [inputs.length]) },
        { logits: new ort.Tensor("float32", logits, shape) },
      );
      return logits;
    },

    dispose: async () => {
      for (const ofKind of Object.values(steps)) {
        for (const step of ofKind.values()) await (await step).release();
        ofKind.clear();
      }
    },
  };
}

/** The session writes the tensors; what lies between them must be 0 too. */
function clearPadding({ slots, length }: ParamLayout, gradient: Float32Array): void {
  for (const [i, { offset, size }] of slots.entries()) gradient.fill(0, offset + size, slots[i + 1]?.offset ?? length);
}

function tokenTensors({ inputs, targets }: Batch): Record<string, ort.Tensor> {
  return {
    inputs: new ort.Tensor("int32", inputs, [inputs.length]),
    targets: new ort.Tensor("int32", targets, [targets.length]),
  };
}

function maskTensors(spec: ModelSpec, batch: Batch): Record<string, ort.Tensor> {
  const masks = masksFor(spec, batch);
  return Object.fromEntries(
    maskShapes(spec, batch.batchSize).map(({ name, shape }) => [
      MASK + name,
      new ort.Tensor("float32", masks.get(name) ?? new Float32Array(), shape),
    ]),
  );
}
