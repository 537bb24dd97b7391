/** @file Activations stored as f16, on Mesa's lavapipe: near the f32 step, the same bits twice, computed again where f16 ends. */
import "../../support/chooseLavapipe.ts";
import { describe, expect } from "vitest";
import { encode, encodedBytes } from "../../../shared/codec/codec.ts";
import type { Batch } from "../../../shared/engine/engine.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import { createGradientEncoder } from "../../../shared/engine/wgsl/encoder.ts";
import type { WgslEngine } from "../../../shared/engine/wgsl/engine.ts";
import { compile, LOSS_SCALE, type Plan } from "../../../shared/engine/wgsl/plan.ts";
import { chooseVariant, overflowProblem } from "../../../shared/engine/wgsl/selfTest.ts";
import { PLAIN, type Storage, type Variant } from "../../../shared/engine/wgsl/variant.ts";
import { initialParams } from "../../../shared/model/init.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { adamw } from "../../../shared/numerics/adamw.ts";
import { createEngineOn } from "../../../worker-node/webgpuEngine.ts";
import { f16Test, testDevice } from "../../support/dawn.ts";
import { type EngineCase, engineCase, engineCases, randomBatch } from "../../support/engineCases.ts";
import { errorOf, reference, resultOf, withBug } from "../../support/wgslResults.ts";

/** Shared by all tests: lavapipe takes a second for each. */
const compiled = new Map<string, GPUComputePipeline>();

/** Every kernel with four lanes; dropout, biases. */
const four = engineCases[1]!;
/** Odd extents: one element at a time, values of an odd number of them; and with threads alone. */
const one = engineCase("head size 11", { kind: "gpt", layers: 1, heads: 1, width: 11, context: 9, vocabulary: 13, bias: false, dropout: 0 }, 1); // prettier-ignore
/** The vocabulary in three chunks. */
const cut = engineCase("vocabulary in chunks", { kind: "gpt", layers: 1, heads: 1, width: 12, context: 9, vocabulary: 200, bias: false, dropout: 0 }, 3); // prettier-ignore

async function planOf(given: EngineCase, batchSize: number, storage: Storage, lossScale = LOSS_SCALE): Promise<Plan> {
  const { spec, layout } = given;
  const limits = { ...limitsOf((await testDevice()).device), ...(given === cut && { maxBindingBytes: 64 * 4 * 30 }) };
  const graph = stepGraph("gradient", spec, layout, batchSize);
  return compile(graph, {
    layout,
    limits,
    dropout: spec.dropout,
    variant: { ...PLAIN, alone: given === one, storage },
    lossScale,
  });
}

async function engineOf(
  given: EngineCase,
  planFor: (storage: Storage, batchSize: number) => Promise<Plan>,
  onOverflow: (count: number) => void = () => expect.fail("an overflow"),
): Promise<WgslEngine> {
  const { spec, layout } = given;
  return createEngineOn(await testDevice(), {
    spec,
    layout,
    compiled,
    storage: "f16",
    onOverflow,
    createEncoder: createGradientEncoder,
    planFor: (_, batchSize, storage) => planFor(storage, batchSize),
  });
}

const plain = (given: EngineCase) => (storage: Storage, batchSize: number) => planOf(given, batchSize, storage);

describe.each([four, one, cut])("$name", (given) => {
  f16Test("gradients near ONNX Runtime's, and not f32's; the second time every bit", async () => {
    const found = await resultOf(await engineOf(given, plain(given)), given);
    const error = errorOf(found, await reference(given));
    expect(error).toBeLessThan(2e-2);
    expect(error).toBeGreaterThan(1e-5);
    expect(await resultOf(await engineOf(given, plain(given)), given)).toEqual(found);
  });
});

describe("a planted bug is caught", () => {
  const unscaled = "* 0.0009765625f";
  const bugs = [
    { kernel: "elementwise", from: "vec4<f16>(", to: "vec4<f16>(1.1f * " },
    { kernel: "layerNorm ", from: "vec4<f32>(b", to: "1.1f * vec4<f32>(b" },
    { kernel: "attention ", from: "vec4<f16>(", to: "vec4<f16>(1.1f * " },
    { kernel: "crossEntropy", from: "* 1024f", to: "* 512f" },
    { kernel: "matMul", from: unscaled, to: "" },
    { kernel: "columnSum", from: unscaled, to: "" },
    { kernel: "embeddingGrad", from: unscaled, to: "" },
  ];
  for (const { kernel, from, to } of bugs) {
    f16Test(`in ${kernel.trim()}`, async () => {
      const plan = withBug(await planOf(four, four.batch.batchSize, "f16"), kernel, from, to);
      const found = await resultOf(await engineOf(four, () => Promise.resolve(plan)), four);
      // Negated, so that NaN counts as caught.
      expect(errorOf(found, await reference(four)) < 2e-2).toBe(false);
    });
  }
});

f16Test(
  "a gradient beyond f16 is computed again in f32, to the bit, whatever came before; and that is counted",
  async () => {
    const { batchSize } = four.batch;
    const counts: number[] = [];
    // Nothing fits a gradient that large.
    const tooLarge = (storage: Storage) => planOf(four, batchSize, storage, 2 ** 40);
    const engine = await engineOf(four, tooLarge, (count) => counts.push(count));
    await engine.load(four.params);
    const [first, second] = [new Float32Array(four.layout.length), new Float32Array(four.layout.length)];
    const { lossSum } = await engine.gradient(four.batch, first);
    expect((await engine.gradient(four.batch, second)).lossSum).toBe(lossSum);
    expect(second).toEqual(first);
    expect(counts).toEqual([1, 2]);
    // Encoded on the device, too.
    const [bytes, payload] = [0, 9].map((fill) => new Uint8Array(encodedBytes("i8", first.length)).fill(fill));
    encode("i8", first, bytes!);
    expect((await engine.encodedGradient!(four.batch, payload!)).lossSum).toBe(lossSum);
    expect(payload).toEqual(bytes);
    expect(counts).toEqual([1, 2, 3]);
    await engine.dispose();
    const whole = await createEngineOn(await testDevice(), {
      ...four,
      compiled,
      planFor: () => planOf(four, batchSize, "f32"),
    });
    const expected = await resultOf(whole, four);
    expect(first).toEqual(expected.subarray(0, -1));
    expect(lossSum).toBe(expected.at(-1));
  },
);

f16Test("300 steps of AdamW: the loss stays within 0.02 of f32's, and falls", async () => {
  const { spec, layout } = four;
  const train = async (storage: Storage): Promise<number[]> => {
    const engine = await createEngineOn(await testDevice(), { spec, layout, compiled, variant: { ...PLAIN, storage } });
    const params = initialParams(spec, layout, 3);
    const [m, v, gradient] = [0, 1, 2].map(() => new Float32Array(layout.length));
    const losses: number[] = [];
    for (let step = 1; step <= 300; step++) {
      await engine.load(params);
      const { lossSum, tokens } = await engine.gradient(sequenceBatch(spec, four.batch.batchSize, step), gradient!);
      losses.push(lossSum / tokens);
      const config = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, learningRate: 3e-3 };
      adamw({ params, m: m!, v: v! }, gradient!, { ...config, gradientScale: 1 / tokens, step }, layout);
    }
    await engine.dispose();
    return losses;
  };
  const [half, whole] = [await train("f16"), await train("f32")];
  expect(mean(whole.slice(-20))).toBeLessThan(0.8 * mean(whole.slice(0, 20)));
  expect(Math.max(...half.map((loss, i) => Math.abs(loss - whole[i]!)))).toBeLessThan(0.02);
  expect(half).not.toEqual(whole);
});

function mean(losses: readonly number[]): number {
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

/** Sequences in which each token tells the next, so that there is something to learn. */
function sequenceBatch(spec: ModelSpec, batchSize: number, step: number): Batch {
  const { vocabulary, context } = spec;
  const start = randomBatch(spec, batchSize, step);
  const token = (row: number, t: number): number => {
    let id = start.inputs[row * context]!;
    for (let i = 0; i < t; i++) id = (3 * id + 1) % vocabulary;
    return id;
  };
  const at = (offset: number) => Int32Array.from(start.inputs, (_, n) => token(Math.floor(n / context), (n % context) + offset)); // prettier-ignore
  return { ...start, inputs: at(0), targets: at(1) };
}

describe("the self-test", () => {
  const { spec, layout, batch } = four;

  async function choiceWith(change: (plan: Plan) => Plan): ReturnType<typeof chooseVariant> {
    const opened = await testDevice();
    const create = async (variant: Variant, onOverflow: () => void): Promise<WgslEngine> =>
      createEngineOn(opened, {
        onOverflow,
        spec,
        layout,
        compiled,
        storage: variant.storage,
        planFor: async () => {
          const plan = await planOf(four, batch.batchSize, variant.storage);
          return variant.storage === "f16" ? change(plan) : plan;
        },
      });
    // As if the adapter were a GPU: software is not asked.
    return chooseVariant({ opened: { ...opened, isSoftware: false }, create, spec, layout, batchSize: batch.batchSize, storage: "f16" }); // prettier-ignore
  }

  f16Test("takes f16 where the device has it and the run allows it", async () => {
    const { variant, refused } = await choiceWith((plan) => plan);
    expect(variant.storage).toBe("f16");
    expect(refused).toEqual([]);
  });

  f16Test("stays with f32 where f16 computes wrong numbers, and says so", async () => {
    const { variant, refused } = await choiceWith((plan) => withBug(plan, "crossEntropy", "* 1024f", "* 512f"));
    expect(variant.storage).toBe("f32");
    expect(refused).toEqual([expect.stringMatching(/^its 16-bit floats: the loss is off by .+ \(relative\)$/)]);
  });

  f16Test("stays with f32 where the examination is beyond f16", async () => {
    const { variant, refused } = await choiceWith((plan) => withBug(plan, "crossEntropy", "* 1024f", "* 1e30f"));
    expect(variant.storage).toBe("f32");
    expect(refused).toEqual(["its 16-bit floats: its gradient is not finite"]);
  });

  f16Test("stays with f32 where numbers beyond f16 pass unnoticed", async () => {
    const { device } = await testDevice();
    const saturating = `enable f16;
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> halves: array<f16>;
@compute @workgroup_size(3)
fn main(@builtin(local_invocation_index) lane: u32) { halves[lane] = f16(clamp(values[lane], -65504.0, 65504.0)); }`;
    expect(await overflowProblem(device)).toBeNull();
    expect(await overflowProblem(device, saturating)).toBe("65536 becomes a smaller number there, unnoticed");
  });
});
