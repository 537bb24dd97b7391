/** @file The engine that runs the model's tfjs ops one by one, on any tfjs backend. The caller registers the backend. */
import * as tf from "@tensorflow/tfjs-core";
import { gptLogits, gptLoss, type Tensors } from "../model/gpt.ts";
import { attentionProbabilities } from "../model/ops/attention.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { checkBatch, checkInputs, masksFor, maskShapes } from "./batch.ts";
import type { Backend, Batch, Engine } from "./engine.ts";

export type EagerEngine = Engine & {
  readonly logitsAt: NonNullable<Engine["logitsAt"]>;
  /**
   * What each of the first `length` tokens attends to, in every layer and head: [layers, heads, length queries, length keys],
   * row-major; each row is a probability distribution over the tokens up to its own. Inputs [T].
   */
  readonly attention: (inputs: Int32Array, length: number) => Promise<Float32Array>;
};

/**
 * `resident`: parameters by name that lie on the backend already and that their owner changes; then it is the owner's load() that is
 * called, not this engine's. @throws Error when tfjs does not have the backend or cannot start it here.
 */
export async function createEagerEngine({
  spec,
  layout,
  backend,
  resident,
}: {
  spec: ModelSpec;
  layout: ParamLayout;
  backend: Exclude<Backend, "onnx">;
  resident?: Tensors;
}): Promise<EagerEngine> {
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs backend "${backend}" did not start`);
  await tf.ready();
  let params: Tensors | undefined = resident;

  /** Everything until the read-back runs without an await, so engines on two backends do not see each other's. */
  const compute = <T>(body: (params: Tensors) => T): T => {
    if (!params) throw new Error("load() was not called before computing");
    void tf.setBackend(backend);
    return body(params);
  };
  const freeParams = () => {
    if (params) tf.dispose(params);
    params = undefined;
  };

  return {
    backend,
    load: (theta) => {
      if (resident) throw new Error("θ is kept by another engine: it loads");
      if (theta.length !== layout.length)
        throw new RangeError(`θ has ${theta.length} values, the layout ${layout.length}`);
      freeParams();
      void tf.setBackend(backend);
      params = Object.fromEntries(
        // A copy of each slice: the cpu backend keeps the array it is given, and the caller goes on changing θ.
        layout.slots.map(({ name, shape, offset, size }) => [
          name,
          tf.tensor(theta.slice(offset, offset + size), [...shape]),
        ]),
      );
      return Promise.resolve();
    },

    gradient: async (batch, gradient) => {
      const tokens = checkBatch(spec, batch);
      const flat = compute((params) => tf.tidy(() => flatGradient(spec, layout, params, batch)));
      const values = await readAndFree(flat);
      gradient.set(values.subarray(0, layout.length));
      return { lossSum: values[layout.length] ?? Number.NaN, tokens };
    },

    loss: async (batch) => {
      const tokens = checkBatch(spec, batch);
      const loss = compute((params) =>
        tf.tidy(() => gptLoss(spec, params, { inputs: tokens1d(batch.inputs), targets: tokens1d(batch.targets) })),
      );
      return { lossSum: (await readAndFree(loss))[0] ?? Number.NaN, tokens };
    },

    logits: async (inputs, batchSize) => {
      checkInputs(spec, inputs, batchSize);
      return readAndFree(compute((params) => tf.tidy(() => gptLogits(spec, params, tokens1d(inputs)))));
    },

    logitsAt: async (inputs, position) => {
      checkInputs(spec, inputs, 1);
      const row = (params: Tensors): tf.Tensor => tf.slice(gptLogits(spec, params, tokens1d(inputs)), [position, 0], [1, -1]); // prettier-ignore
      return readAndFree(compute((params) => tf.tidy(() => row(params))));
    },

    attention: async (inputs, length) => {
      checkInputs(spec, inputs, 1);
      if (!(length >= 1 && length <= spec.context))
        throw new RangeError(`length ${length}, expected 1 to ${spec.context}`);
      return readAndFree(compute((params) => tf.tidy(() => attentionOf(spec, params, inputs, length))));
    },

    dispose: () => {
      freeParams();
      return Promise.resolve();
    },
  };
}

function attentionOf(spec: ModelSpec, params: Tensors, inputs: Int32Array, length: number): tf.Tensor {
  const { context, heads } = spec;
  const layers: tf.Tensor[] = [];
  gptLogits(spec, params, tokens1d(inputs), undefined, (qkv) => {
    const all = attentionProbabilities(qkv, { batch: 1, context, heads }); // [1, H, T, T]
    layers.push(tf.slice(all, [0, 0, 0, 0], [1, heads, length, length]));
  });
  return tf.concat(layers, 0);
}

/**
 * [P + 1]: the gradient in layout order, padding 0, then the loss. One tensor, because a read-back from a GPU costs the same
 * (on some browsers up to 100 ms) whatever its size.
 */
function flatGradient(spec: ModelSpec, layout: ParamLayout, params: Tensors, batch: Batch): tf.Tensor1D {
  const inputs = tokens1d(batch.inputs);
  const targets = tokens1d(batch.targets);
  const values = masksFor(spec, batch);
  const masks = Object.fromEntries(
    maskShapes(spec, batch.batchSize).map(({ name, shape }) => [name, tf.tensor(values.get(name) ?? [], [...shape])]),
  );
  const names = layout.slots.map(({ name }) => name);
  const { value, grads } = tf.valueAndGrads((...tensors: tf.Tensor[]) =>
    gptLoss(spec, Object.fromEntries(tensors.map((tensor, i) => [names[i], tensor])), { inputs, targets, masks }),
  )(names.map((name) => params[name] as tf.Tensor));
  const pieces: tf.Tensor1D[] = [];
  let end = 0;
  for (const [i, { offset, size }] of layout.slots.entries()) {
    if (offset > end) pieces.push(tf.zeros([offset - end]));
    pieces.push(tf.reshape(grads[i] as tf.Tensor, [size]));
    end = offset + size;
  }
  if (layout.length > end) pieces.push(tf.zeros([layout.length - end]));
  return tf.concat1d([...pieces, tf.reshape(value, [1])]);
}

function tokens1d(ids: Int32Array): tf.Tensor1D {
  return tf.tensor1d(ids, "int32");
}

async function readAndFree(tensor: tf.Tensor): Promise<Float32Array> {
  try {
    return (await tensor.data()) as Float32Array;
  } finally {
    tensor.dispose();
  }
}
