/**
 * @file Named ops: patterns that a graph compiler should not have to rediscover. Each is a tfjs kernel of its own, so the
 * recorded graph has one node for it; on a real tfjs backend the kernel is its definition in plain tf ops, so every
 * backend runs it. Forward ops have one output; what a gradient needs again it computes again (a lowering shares it).
 */
import * as tf from "@tensorflow/tfjs-core";

export type TensorSpec = { readonly shape: readonly number[]; readonly dtype: "float32" | "int32" };

export type Attributes = Readonly<Record<string, number | boolean | readonly number[]>>;

/** Inputs by name: `R` always present, `O` sometimes. */
export type Inputs<R extends string, O extends string, T> = Readonly<Record<R, T>> & Readonly<Partial<Record<O, T>>>;

export type NamedOp<R extends string = string, O extends string = never, A extends Attributes = Attributes> = {
  /** The kernel's name; the prefix keeps clear of tfjs's own. */
  readonly name: `Manyhands${string}`;
  /** Names of the inputs in the order a graph node lists them; optional ones last. */
  readonly inputs: readonly (R | O)[];
  readonly outputs: (inputs: Inputs<R, O, TensorSpec>, attributes: A) => readonly TensorSpec[];
  /** The definition in plain tf ops; runs inside `tf.tidy`. */
  readonly compute: (inputs: Inputs<R, O, tf.Tensor>, attributes: A) => tf.Tensor[];
  /** Gradients of the float inputs, given that of the only output. Without it the op cannot be differentiated. */
  readonly gradient?: (
    dy: tf.Tensor,
    inputs: Inputs<R, O, tf.Tensor>,
    attributes: A,
  ) => Readonly<Partial<Record<R, tf.Tensor>>>;
};

/** A named op as the registry keeps it: names and attributes checked by {@link defineOp}'s types only. */
export type AnyOp = NamedOp<string, string>;

const registry = new Map<string, AnyOp>();

export function namedOps(): Iterable<AnyOp> {
  return registry.values();
}

/** Runs the op on whatever tfjs backend is current. */
export type RunOp<R extends string, O extends string = never, A extends Attributes = Attributes> = (
  inputs: Inputs<R, O, tf.Tensor>,
  attributes: A,
) => tf.Tensor[];

/** Registers the op and its gradient with tfjs; returns the function that runs it on whatever backend is current. */
export function defineOp<R extends string, O extends string = never, A extends Attributes = Attributes>(
  op: NamedOp<R, O, A>,
): RunOp<R, O, A> {
  const any = op as unknown as AnyOp;
  registry.set(op.name, any);
  const { gradient } = any;
  if (gradient) {
    tf.registerGradient({
      kernelName: op.name,
      saveAllInputs: true,
      gradFunc: (dy, saved, attributes) => {
        const gradients = gradient(dy as tf.Tensor, byName(any, saved), attributes as unknown as Attributes);
        return Object.fromEntries(
          Object.entries(gradients).map(([name, tensor]) => [op.inputs.indexOf(name as R), () => tensor as tf.Tensor]),
        );
      },
    });
  }
  return (inputs, attributes) => {
    registerKernel(any, tf.getBackend());
    const given = inputs as Readonly<Record<string, tf.Tensor>>;
    // A list, because tfjs saves all inputs for the gradient of a kernel only when they come as a list.
    const list = op.inputs.map((name) => given[name]).filter((tensor) => tensor !== undefined);
    const result: tf.Tensor | tf.Tensor[] = tf
      .engine()
      .runKernel(op.name, list as unknown as tf.NamedTensorMap, attributes);
    return Array.isArray(result) ? result : [result];
  };
}

/** A kernel's list of inputs as the record that the op's functions take. */
export function byName<T>(op: AnyOp, list: ArrayLike<T>): Record<string, T> {
  return Object.fromEntries(Array.from(list, (value, i) => [op.inputs[i], value]));
}

/** Backends may appear at any time, so an op joins one when it first runs there. */
function registerKernel(op: AnyOp, backendName: string): void {
  if (tf.getKernel(op.name, backendName)) return;
  tf.registerKernel({
    kernelName: op.name,
    backendName,
    kernelFunc: ({ inputs, attrs }) =>
      tf.tidy(() => op.compute(byName(op, inputs as unknown as tf.Tensor[]), attrs as unknown as Attributes)),
  });
}

/** The op's first output; most have no other. */
export function only(outputs: readonly tf.Tensor[]): tf.Tensor {
  const [first] = outputs;
  if (!first) throw new Error("an op returned no tensor");
  return first;
}
