import { expect, test } from "vitest";
import { createKernels, type Kernels, OWN_BYTES } from "../../../shared/engine/onnxKernels.ts";
import { GELU_CUBIC, GELU_LINEAR } from "../../../shared/model/ops/constants.ts";
import { randomNormal } from "../../../shared/numerics/rng.ts";
import { relativeL2 } from "../../support/engineCases.ts";

function start(): { kernels: Kernels; place: (values: ArrayLike<number>) => { at: number; values: Float32Array } } {
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
  let next = OWN_BYTES;
  return {
    kernels: createKernels(memory),
    place: (given) => {
      // One element apart: nothing may be written beside a value.
      const at = next;
      next += 4 * given.length + 4;
      const values = new Float32Array(memory.buffer, at, given.length);
      values.set(given);
      return { at, values };
    },
  };
}

test("GELU and its slope are those of f64, also far out", () => {
  const { kernels, place } = start();
  const given = [
    ...Array.from({ length: 4001 }, (_, i) => (i - 2000) / 150),
    ...[0, -0, 1e-30, -1e-30, 1e-8, 30, -30, 1e4, -1e4, 1e30, -1e30],
  ];
  while (given.length % 4 !== 0) given.push(1);
  const [x, y, slope, after] = [place(given), place(given.map(() => 7)), place(given.map(() => 7)), place([7])];
  kernels.geluWithSlope(x.at, given.length, y.at, slope.at);
  for (const [i, value] of x.values.entries()) {
    const gate = 1 / (1 + Math.exp(-value * (GELU_LINEAR + GELU_CUBIC * value ** 2)));
    const inner = GELU_LINEAR + 3 * GELU_CUBIC * value ** 2;
    const expected = value * gate;
    const derivative = gate + (gate === 0 || gate === 1 ? 0 : value * gate * (1 - gate) * inner);
    expect(Math.abs(y.values[i]! - expected), `gelu(${value})`).toBeLessThan(4e-7 * Math.max(1, Math.abs(expected)));
    // Far out x² is beyond f32, as it is for ONNX Runtime.
    if (Math.abs(value) < 1e15) expect(Math.abs(slope.values[i]! - derivative), `gelu'(${value})`).toBeLessThan(1e-6);
  }
  expect(after.values[0]).toBe(7);
});

test("what is not a number stays so", () => {
  const { kernels, place } = start();
  const [x, y, slope] = [place([1, NaN, 2, 3]), place([0, 0, 0, 0]), place([0, 0, 0, 0])];
  kernels.geluWithSlope(x.at, 4, y.at, slope.at);
  expect([...y.values, ...slope.values].map(Number.isNaN)).toEqual([
    false,
    true,
    false,
    false,
    false,
    true,
    false,
    false,
  ]);
});

test.each([
  { rows: 1, width: 4, adds: false },
  { rows: 65, width: 12, adds: true },
  { rows: 200, width: 384, adds: false },
  { rows: 129, width: 128, adds: true },
])("the gradient of layer norm is that of f64: $rows × $width, with an addend: $adds", ({ rows, width, adds }) => {
  const { kernels, place } = start();
  let drawn = 0;
  const numbers = (count: number, middle = 0): number[] =>
    Array.from({ length: count }, () => middle + randomNormal(rows, drawn++));
  const [dy, x, gain] = [place(numbers(rows * width)), place(numbers(rows * width, 0.3)), place(numbers(width, 1))];
  const addend = place(numbers(rows * width));
  const row = (values: Float32Array, i: number): Float32Array => values.subarray(i * width, (i + 1) * width);
  const statistics = Array.from({ length: rows }, (_, i) => {
    const mean = average([...row(x.values, i)]);
    return { mean, inverse: 1 / Math.sqrt(average([...row(x.values, i)].map((value) => (value - mean) ** 2)) + 1e-5) };
  });
  const mean = place(statistics.map(({ mean }) => mean));
  const inverseDeviation = place(statistics.map(({ inverse }) => inverse));
  const [dx, dGain, sums, after] = [
    place(numbers(rows * width)),
    place(numbers(width)),
    place(numbers(width)),
    place([7]),
  ];
  kernels.layerNormGrad(
    { dy: dy.at, x: x.at, gain: gain.at, mean: mean.at, inverseDeviation: inverseDeviation.at, addend: adds ? addend.at : undefined, dx: dx.at, dGain: dGain.at, sums: sums.at },
    rows,
    width,
  ); // prettier-ignore
  const expectedGain = new Float64Array(width);
  const expected = statistics.flatMap(({ mean, inverse }, i) => {
    const normalised = [...row(x.values, i)].map((value) => (value - mean) * inverse);
    const u = [...row(dy.values, i)].map((value, j) => value * gain.values[j]!);
    for (const [j, value] of row(dy.values, i).entries()) expectedGain[j]! += value * normalised[j]!;
    const product = average(u.map((value, j) => value * normalised[j]!));
    return u.map(
      (value, j) => (value - average(u) - normalised[j]! * product) * inverse + (adds ? row(addend.values, i)[j]! : 0),
    );
  });
  expect(relativeL2(dx.values, expected)).toBeLessThan(1e-6);
  expect(relativeL2(dGain.values, expectedGain)).toBeLessThan(1e-6);
  expect(after.values[0]).toBe(7);
});

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
