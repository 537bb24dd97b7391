import * as fc from "fast-check";
import { expect, test } from "vitest";
import { createArenaMemory } from "../../../coordinator/optimizer/arenaMemory.ts";
import { createStepKernel, type StepKernel } from "../../../coordinator/optimizer/stepKernel.ts";
import { decodeApply, encode } from "../../../shared/codec/codec.ts";
import { adamw } from "../../../shared/numerics/adamw.ts";
import { hashChunk } from "../../../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../../../shared/numerics/layout.ts";
import { squaredNormOf } from "../../../shared/numerics/norm.ts";
import { randomUniform, streamKey } from "../../../shared/numerics/rng.ts";
import { roundScaled, subtract } from "../../../shared/numerics/sum.ts";

type Memory = ReturnType<typeof createArenaMemory>;

/** Tensors of any size, odd ones too, with and without weight decay; padding between them. */
const layouts = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 900 }), fc.boolean()), { minLength: 1, maxLength: 4 })
  .map((sizes) => layoutOf(sizes.map(([size, matrix], i) => ({ name: `t${i}`, shape: matrix ? [1, size] : [size] }))));

/** Bits of f32 from 2^−149 to 2^60, both zeros: what stays finite as a gradient, a moment and a parameter. */
function values(length: number, seed: number, exponents: readonly [number, number]): Float32Array {
  const key = streamKey(seed, 0);
  const [least, most] = exponents;
  return Float32Array.from({ length }, (_, i) => {
    const magnitude = (randomUniform(key, 3 * i) + 1) * 2 ** Math.floor(least + (most - least) * randomUniform(key, 3 * i + 1)); // prettier-ignore
    const kind = randomUniform(key, 3 * i + 2);
    return kind < 0.05 ? -0 : kind < 0.1 ? 0 : kind < 0.55 ? -magnitude : magnitude;
  });
}

const exponents = fc.constantFrom<[number, number]>([-30, 4], [-149, -120], [-149, 60], [40, 60]);

function start(
  layout: ParamLayout,
  seed: number,
  range: readonly [number, number],
): { memory: Memory; kernel: StepKernel } {
  // prettier-ignore
  const memory = createArenaMemory(layout.length, "f32");
  const { master, m, v, gradient, published, total } = memory;
  [master, m, gradient, published[0]].forEach((array, i) => array.set(values(layout.length, seed + i, range)));
  v.set(values(layout.length, seed + 5, range).map((x) => Math.min(Math.abs(x), 2 ** 100)));
  total.set(values(layout.length, seed + 6, range));
  return { memory, kernel: createStepKernel(memory.memories) };
}

/** −0 is not 0, and subnormals count. */
function bits(array: Float32Array): Uint32Array {
  return new Uint32Array(array.slice().buffer);
}

function expectBits(actual: Float32Array, expected: Float32Array): void {
  expect(bits(actual)).toEqual(bits(expected));
}

test("[I1] AdamW has the bits of its definition, whatever the settings, sizes and slices; padding stays", () => {
  const settings = fc.record({
    beta1: fc.constantFrom(0, 0.9, 0.95, 0.999),
    beta2: fc.constantFrom(0, 0.95, 0.99, 0.999),
    epsilon: fc.constantFrom(1e-8, 1e-30, 0.5),
    weightDecay: fc.constantFrom(0, 0.1, 1),
    learningRate: fc.constantFrom(0, 1e-9, 6e-4, 0.3),
    step: fc.constantFrom(1, 2, 37, 100_000),
    gradientScale: fc.constantFrom(1, 0.3, 1e-6),
  });
  const property = fc.property(layouts, settings, fc.nat(), exponents, (layout, options, seed, range) => {
    const { memory, kernel } = start(layout, seed, range);
    const expected = { params: memory.master.slice(), m: memory.m.slice(), v: memory.v.slice() };
    adamw(expected, memory.gradient.slice(), options, layout);
    const middle = 256 * Math.floor(layout.length / 512);
    kernel.adamw(options, layout, middle, layout.length);
    kernel.adamw(options, layout, 0, middle);
    expectBits(memory.master, expected.params);
    expectBits(memory.m, expected.m);
    expectBits(memory.v, expected.v);
  });
  fc.assert(property, { numRuns: 200 });
});

test("[I1] a parameter that the step cancels shows the last bit of the step's f64", () => {
  const layout = layoutOf([{ name: "a", shape: [512] }]);
  const { memory, kernel } = start(layout, 11, [-9, 0]);
  // v = 1 and √v + ε = 1: the step is lr·(m·10.000000000000002), nearly m, and θ = m leaves the rest.
  memory.gradient.fill(1);
  const options = {
    beta1: 0.9,
    beta2: 0,
    epsilon: 1e-30,
    weightDecay: 0,
    learningRate: 0.1,
    step: 1,
    gradientScale: 1,
  };
  memory.master.set(memory.m.map((m) => 0.9 * m + (1 - 0.9)));
  const expected = { params: memory.master.slice(), m: memory.m.slice(), v: memory.v.slice() };
  adamw(expected, memory.gradient.slice(), options, layout);
  kernel.adamw(options, layout, 0, layout.length);
  expect(expected.params.some((p) => p !== 0 && Math.abs(p) < 1e-15)).toBe(true);
  expectBits(memory.master, expected.params);
});

test("[I1] mean gradient and its norm have the bits of their definitions", () => {
  const property = fc.property(
    layouts,
    fc.nat(),
    exponents,
    fc.constantFrom(1, 1 / 768, 1 / 3),
    (layout, seed, range, scale) => {
      // prettier-ignore
      const { memory, kernel } = start(layout, seed, range);
      const expected = new Float32Array(layout.length);
      roundScaled(expected, memory.total, scale);
      expect(kernel.mean(0, layout.length, scale)).toBe(squaredNormOf(expected, 0, layout.length));
      expectBits(memory.gradient, expected);
    },
  );
  fc.assert(property, { numRuns: 100 });
});

test("a sum that leaves f32 is seen in the norm, as by the definition", () => {
  const layout = layoutOf([{ name: "a", shape: [600] }]);
  for (const value of [1e39, -Infinity, NaN]) {
    const { memory, kernel } = start(layout, 1, [-3, 3]);
    memory.total[599] = value;
    expect(Number.isFinite(kernel.mean(0, layout.length, 1))).toBe(false);
  }
});

test("[I3] what is published has the bits that a worker makes of it, from either of the two arrays", () => {
  const property = fc.property(layouts, fc.nat(), exponents, (layout, seed, range) => {
    const { memory, kernel } = start(layout, seed, range);
    for (const current of [0, 1] as const) {
      const old = memory.published[current].slice();
      const difference = new Float32Array(layout.length);
      const update = new Uint8Array(4 * layout.length);
      subtract(difference, memory.master, old);
      encode("f32", difference, update);
      kernel.publishFloats(current, 0, layout.length);
      expect(memory.update.slice()).toEqual(update);
      decodeApply("f32", update, old);
      expectBits(memory.published[1 - current]!, old);
      memory.master.set(values(layout.length, seed + 9, range));
    }
  });
  fc.assert(property, { numRuns: 100 });
});

test("hashes are those of the definition, for each array that is hashed", () => {
  const property = fc.property(layouts, fc.nat(), (layout, seed) => {
    const { memory, kernel } = start(layout, seed, [-149, 60]);
    memory.published[1].set(values(layout.length, seed + 8, [-9, 9]));
    const hashed = { gradient: memory.gradient, published0: memory.published[0], published1: memory.published[1] };
    for (const [name, array] of Object.entries(hashed) as [keyof typeof hashed, Float32Array][]) {
      const [expected, actual] = [new Uint32Array(4), new Uint32Array(4)];
      hashChunk(new Uint32Array(array.slice().buffer), 0, layout.length, expected, 2);
      kernel.hashChunk(name, 0, layout.length, actual, 2);
      expect(actual).toEqual(expected);
    }
  });
  fc.assert(property, { numRuns: 50 });
});

test("a kernel stays within [from, to)", () => {
  const layout = layoutOf([{ name: "a", shape: [4, 256] }]);
  const { memory, kernel } = start(layout, 3, [-3, 3]);
  const before = {
    gradient: memory.gradient.slice(),
    next: memory.published[1].slice(),
    master: memory.master.slice(),
  };
  kernel.mean(256, 512, 1);
  kernel.publishFloats(0, 256, 512);
  const options = {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0,
    learningRate: 1,
    step: 1,
    gradientScale: 1,
  };
  kernel.adamw(options, layout, 256, 512);
  for (const [from, to] of [
    [0, 256],
    [512, 1024],
  ] as const) {
    // prettier-ignore
    expectBits(memory.gradient.subarray(from, to), before.gradient.subarray(from, to));
    expectBits(memory.published[1].subarray(from, to), before.next.subarray(from, to));
    expectBits(memory.master.subarray(from, to), before.master.subarray(from, to));
  }
  expect(memory.master.slice(256, 512)).not.toEqual(before.master.slice(256, 512));
});
