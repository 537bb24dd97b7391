/**
 * @file Linear layers, and the gradients of the plain tfjs ops they are made of: product, sum, reshape. tfjs keeps its own
 * gradients in a module that Node cannot load (extensionless imports); beside the named ops these three suffice.
 */
import * as tf from "@tensorflow/tfjs-core";

/** y = x·w (+ bias). Shapes: x [N, in], w [in, out], bias [out] → [N, out]. */
export function linear(x: tf.Tensor2D, weight: tf.Tensor, bias?: tf.Tensor): tf.Tensor2D {
  const y = tf.matMul<tf.Tensor2D>(x, weight);
  return bias ? tf.add<tf.Tensor2D>(y, bias) : y;
}

/**
 * op(a)·op(b), in gradients. tfjs's wasm backend has a fast product for untransposed factors only; a scalar loop for the others
 * is over ten times as slow, so there the factors of matrices are transposed first: a step of tiny took 4.8 s, now 0.5 s.
 */
function matMul(a: tf.Tensor, b: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor2D {
  if (tf.getBackend() !== "wasm" || a.rank !== 2) return tf.matMul<tf.Tensor2D>(a, b, transposeA, transposeB);
  return tf.tidy(() => tf.matMul<tf.Tensor2D>(transposeA ? tf.transpose(a) : a, transposeB ? tf.transpose(b) : b));
}

/** With y = a·op(b): da = dy·op(b)ᵀ, db = aᵀ·dy, or dyᵀ·a for a transposed b. */
tf.registerGradient({
  kernelName: tf.BatchMatMul,
  inputsToSave: ["a", "b"],
  gradFunc: (dyAny, saved, attributes) => {
    const dy = dyAny as tf.Tensor;
    const [a, b] = saved as [tf.Tensor, tf.Tensor];
    const { transposeA, transposeB } = attributes as unknown as tf.BatchMatMulAttrs;
    if (transposeA) throw new Error("the gradient of a product with a transposed first factor is not defined");
    return {
      a: () => matMul(dy, b, false, !transposeB),
      b: () => (transposeB ? matMul(dy, a, true, false) : matMul(a, dy, true, false)),
    };
  },
});

/** An addend that was broadcast along leading axes (a bias, the positions) gets the sum over them. */
tf.registerGradient({
  kernelName: tf.Add,
  inputsToSave: ["a", "b"],
  gradFunc: (dyAny, saved) => {
    const dy = dyAny as tf.Tensor;
    const reduceTo = (input: tf.Tensor) => {
      const leading = dy.rank - input.rank;
      if (input.shape.some((extent, axis) => extent !== dy.shape[leading + axis])) {
        throw new Error(`the gradient of [${dy.shape.join()}] for an addend [${input.shape.join()}] is not defined`);
      }
      return leading === 0
        ? tf.clone(dy)
        : tf.sum(
            dy,
            Array.from({ length: leading }, (_, axis) => axis),
          );
    };
    const [a, b] = saved as [tf.Tensor, tf.Tensor];
    return { a: () => reduceTo(a), b: () => reduceTo(b) };
  },
});

tf.registerGradient({
  kernelName: tf.Reshape,
  inputsToSave: ["x"],
  gradFunc: (dy, saved) => {
    const [x] = saved as [tf.Tensor];
    return { x: () => tf.reshape(dy as tf.Tensor, x.shape) };
  },
});
