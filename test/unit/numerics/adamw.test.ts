import { expect, test } from "vitest";
import { adamw } from "../../../shared/numerics/adamw.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { randomNormal } from "../../../shared/numerics/rng.ts";

const config = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1 };

const arena = () => new Float32Array(256);

/** What torch.optim.AdamW does to one scalar, in f64 throughout, written the way PyTorch's documentation does. */
function reference(p: number, gradients: readonly number[], learningRate: number, weightDecay: number): number {
  let m = 0;
  let v = 0;
  gradients.forEach((g, index) => {
    const t = index + 1;
    p -= learningRate * weightDecay * p;
    m = config.beta1 * m + (1 - config.beta1) * g;
    v = config.beta2 * v + (1 - config.beta2) * g ** 2;
    const mHat = m / (1 - Math.pow(config.beta1, t));
    const vHat = v / (1 - Math.pow(config.beta2, t));
    p -= (learningRate * mHat) / (Math.sqrt(vHat) + config.epsilon);
  });
  return p;
}

test("ten steps agree with a scalar f64 reference; decay on matrices only", () => {
  const layout = layoutOf([
    { name: "matrix", shape: [10, 30] },
    { name: "norm", shape: [7] },
  ]);
  const params = Float32Array.from({ length: layout.length }, (_, i) => randomNormal(1, i));
  const start = params.slice();
  const m = new Float32Array(layout.length);
  const v = new Float32Array(layout.length);
  const gradients = Array.from({ length: 10 }, (_, t) =>
    Float32Array.from({ length: layout.length }, (_, i) => 8 * randomNormal(2 + t, i)),
  );
  gradients.forEach((gradient, index) => {
    adamw({ params, m, v }, gradient, { ...config, learningRate: 3e-3, step: index + 1, gradientScale: 0.25 }, layout);
  });
  for (const slot of layout.slots) {
    for (let i = slot.offset; i < slot.offset + slot.size; i++) {
      const scaled = gradients.map((gradient) => gradient[i]! * 0.25);
      const expected = reference(start[i]!, scaled, 3e-3, slot.decay ? 0.1 : 0);
      // Storage of p, m and v is f32: ten roundings of 2^-24 relative to |p| < 5.
      expect(Math.abs(params[i]! - expected)).toBeLessThan(4e-6);
    }
  }
});

test("padding between tensors is not touched", () => {
  const layout = layoutOf([{ name: "a", shape: [3] }, { name: "b", shape: [2, 2] }]); // prettier-ignore
  const params = new Float32Array(layout.length).fill(1);
  const ones = new Float32Array(layout.length).fill(1);
  const step = { ...config, learningRate: 0.1, step: 1, gradientScale: 1 };
  adamw({ params, m: new Float32Array(512), v: new Float32Array(512) }, ones, step, layout);
  expect([...params].flatMap((p, i) => (p === 1 ? [] : [i]))).toEqual([0, 1, 2, 256, 257, 258, 259]);
});

test("slices computed apart give the same bits as the whole", () => {
  const layout = layoutOf([{ name: "a", shape: [500] }, { name: "b", shape: [40, 20] }]); // prettier-ignore
  const make = () => ({
    params: Float32Array.from({ length: layout.length }, (_, i) => randomNormal(5, i)),
    m: new Float32Array(layout.length),
    v: new Float32Array(layout.length),
  });
  const gradient = Float32Array.from({ length: layout.length }, (_, i) => randomNormal(6, i));
  const step = { ...config, learningRate: 0.1, step: 1, gradientScale: 1 };
  const whole = make();
  adamw(whole, gradient, step, layout);
  const parts = make();
  for (const [from, to] of [[700, layout.length], [0, 100], [100, 700]] as const) adamw(parts, gradient, step, layout, from, to); // prettier-ignore
  expect(parts).toEqual(whole);
});

test("arrays of another length, and step 0, are refused", () => {
  const layout = layoutOf([{ name: "a", shape: [3] }]);
  const step = { ...config, learningRate: 0.1, step: 1, gradientScale: 1 };
  expect(() => adamw({ params: arena(), m: arena(), v: new Float32Array(3) }, arena(), step, layout)).toThrow(
    "an array of 3 elements, the layout has 256",
  );
  expect(() => adamw({ params: arena(), m: arena(), v: arena() }, arena(), { ...step, step: 0 }, layout)).toThrow(
    "step 0",
  );
});
