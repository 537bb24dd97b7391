/** @file The compiled step on a GPU (or what plays one) against ONNX Runtime and tfjs: same loss, same gradients, same bits twice. */
import { afterAll, describe, expect, vi } from "vitest";
import type { Engine } from "../../../shared/engine/engine.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import type { StepKind } from "../../../shared/engine/stepKind.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import type { WgslEngine } from "../../../shared/engine/wgsl/engine.ts";
import { compile, type Plan } from "../../../shared/engine/wgsl/plan.ts";
import { USAGE } from "../../../shared/engine/wgsl/replay.ts";
import { initialParams } from "../../../shared/model/init.ts";
import { presets } from "../../../shared/model/spec.ts";
import { createNodeEngine } from "../../../worker-node/engine.ts";
import { createOnnxEngine } from "../../../worker-node/onnxEngine.ts";
import { createEngineOn } from "../../../worker-node/webgpuEngine.ts";
import { gpuTest, testDevice } from "../../support/dawn.ts";
import { type EngineCase, engineCase, engineCases, relativeL2 } from "../../support/engineCases.ts";

const small = { kind: "gpt", layers: 1, heads: 1, bias: false, dropout: 0 } as const;

/** Extents that nothing divides; whole and broken tiles of attention; every road through a kernel. */
const cases: readonly EngineCase[] = [
  ...[0, 1, 4].map((i) => engineCases[i]!),
  engineCase("head size 8, vocabulary 7", { ...small, heads: 2, width: 16, context: 37, vocabulary: 7, bias: true }, 3),
  engineCase(
    "head size 20, 65 tokens",
    { ...small, heads: 2, width: 40, context: 65, vocabulary: 31, dropout: 0.2 },
    1,
  ),
  engineCase("head size 33", { ...small, heads: 1, width: 33, context: 34, vocabulary: 13 }, 1),
  engineCase("head size 128", { ...small, heads: 1, width: 128, context: 17, vocabulary: 33, bias: true }, 2),
  engineCase(
    "every tile full",
    { ...small, heads: 2, width: 64, context: 64, vocabulary: 64, bias: true, dropout: 0.1 },
    1,
  ),
  engineCase("large tiles", { ...small, heads: 2, width: 128, context: 70, vocabulary: 150 }, 11),
];

const engines: Engine[] = [];
afterAll(async () => {
  for (const engine of engines) await engine.dispose();
});

async function engineFor({ spec, layout, params }: EngineCase): Promise<WgslEngine> {
  const engine = await createEngineOn(await testDevice(), { spec, layout });
  engines.push(engine);
  await engine.load(params);
  return engine;
}

function compare({ layout }: EngineCase, found: Float32Array, expected: Float32Array, tolerance = 1e-5): void {
  for (const { name, offset, size } of layout.slots) {
    const [a, b] = [found, expected].map((flat) => flat.subarray(offset, offset + size));
    expect(relativeL2(a ?? [], b ?? []), name).toBeLessThan(tolerance);
  }
  expect(relativeL2(found, expected)).toBeLessThan(tolerance);
}

describe.each(cases)("$name", (given) => {
  const { spec, layout, params, batch } = given;
  gpuTest("agrees with ONNX Runtime on losses, every gradient and logits; the second time in every bit", async () => {
    const onnx = await createOnnxEngine({ spec, layout, threads: 1 });
    await onnx.load(params);
    const expected = new Float32Array(layout.length);
    const reference = await onnx.gradient(batch, expected);

    const engine = await engineFor(given);
    const gradient = new Float32Array(layout.length).fill(3);
    const { lossSum, tokens } = await engine.gradient(batch, gradient);
    expect(tokens).toBe(reference.tokens);
    expect(Math.abs(lossSum / reference.lossSum - 1)).toBeLessThan(3e-6);
    compare(given, gradient, expected);

    const again = new Float32Array(layout.length).fill(5);
    expect((await engine.gradient(batch, again)).lossSum).toBe(lossSum);
    expect(again).toEqual(gradient);

    const alone = (await engine.loss(batch)).lossSum;
    expect(Math.abs(alone / (await onnx.loss(batch)).lossSum - 1)).toBeLessThan(3e-6);
    const logits = await engine.logits(batch.inputs, batch.batchSize);
    expect(relativeL2(logits, await onnx.logits(batch.inputs, batch.batchSize))).toBeLessThan(1e-5);
    await onnx.dispose();
  });
});

gpuTest(
  "a batch for which the device has no memory goes in halves, and that is said; one sample is an error",
  async () => {
    const given = engineCases[1]!;
    const { spec, layout, params, batch } = given;
    const opened = await testDevice();
    const limits = limitsOf(opened.device);
    /** As if everything above `fits` samples needed more memory than there is. */
    const engineWith = async (fits: number): Promise<WgslEngine> => {
      const planFor = (kind: StepKind, batchSize: number): Plan => {
        const plan = compile(stepGraph(kind, spec, layout, batchSize), { layout, limits, dropout: spec.dropout });
        const tooMuch = Array.from({ length: 64 }, () => opened.device.limits.maxBufferSize);
        return batchSize > fits ? { ...plan, activationBytes: [...plan.activationBytes, ...tooMuch] } : plan;
      };
      const engine = await createEngineOn(opened, { spec, layout, planFor });
      engines.push(engine);
      await engine.load(params);
      return engine;
    };
    expect(batch.batchSize).toBeGreaterThan(1);
    const said: string[] = [];
    const stderr = vi.spyOn(process.stderr, "write").mockImplementation((text) => said.push(String(text)) > 0);
    try {
      const [found, whole] = [new Float32Array(layout.length), new Float32Array(layout.length)];
      const parts = await (await engineWith(1)).gradient(batch, found);
      expect(said.at(-1)).toBe("the batch does not fit the GPU's memory: it is computed in parts of 1\n");
      const { lossSum, tokens } = await (await engineFor(given)).gradient(batch, whole);
      expect(parts.tokens).toBe(tokens);
      expect(Math.abs(parts.lossSum / lossSum - 1)).toBeLessThan(3e-6);
      compare(given, found, whole);
      const engine = await engineWith(0);
      // Browsers' workers know what to do by these words.
      await expect(engine.gradient(batch, found)).rejects.toThrow(/^out of memory: /);
    } finally {
      stderr.mockRestore();
    }
  },
);

gpuTest("tiny: agrees with ONNX Runtime and tfjs; one submit; little JavaScript", async () => {
  const drawn = engineCase("tiny", { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 }, 2);
  // Fresh weights: twelve times as large, as in the other cases, four layers amplify rounding itself to 1.2e-5.
  const given = { ...drawn, params: initialParams(drawn.spec, drawn.layout, 5) };
  const { spec, layout, params, batch } = given;
  const engine = await engineFor(given);
  const gradient = new Float32Array(layout.length);
  const { lossSum } = await engine.gradient(batch, gradient);
  for (const preference of ["onnx", "wasm"] as const) {
    const other = (await createNodeEngine({ spec, layout, threads: 1, preference })).engine;
    await other.load(params);
    const expected = new Float32Array(layout.length);
    expect(Math.abs(lossSum / (await other.gradient(batch, expected)).lossSum - 1)).toBeLessThan(3e-6);
    compare(given, gradient, expected);
    await other.dispose();
  }
  const hostMs: number[] = [];
  for (let i = 0; i < 20; i++) {
    await engine.gradient(batch, gradient);
    hostMs.push(engine.lastStep().hostMs);
  }
  // 1.0 to 1.6 ms on two crowded cores; eager tfjs takes hundreds.
  expect(Math.min(...hostMs)).toBeLessThan(10);
});

gpuTest(
  "an engine for logits only: one position's are a row of all; each parameter is where it says; no gradients",
  async () => {
    const { spec, layout, params, batch } = engineCases[0]!;
    const opened = await testDevice();
    // Arenas of several buffers.
    const limits = { ...limitsOf(opened.device), maxBufferBytes: 8192 };
    const engine = await createEngineOn(opened, { spec, layout, limits, logitsOnly: true });
    engines.push(engine);
    await engine.load(params);
    const inputs = batch.inputs.slice(0, spec.context);
    const all = await engine.logits(inputs, 1);
    for (const position of [0, 3, spec.context - 1]) {
      const row = all.subarray(position * spec.vocabulary, (position + 1) * spec.vocabulary);
      expect(await engine.logitsAt(inputs, position)).toEqual(row);
    }
    const buffers = new Set<GPUBuffer>();
    for (const slot of layout.slots) {
      const { buffer, offset, size } = engine.bindingOf(slot);
      buffers.add(buffer);
      expect(offset % opened.device.limits.minStorageBufferOffsetAlignment).toBe(0);
      const target = opened.device.createBuffer({ size, usage: USAGE.mapRead | USAGE.copyTarget });
      const encoder = opened.device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, target, 0, size);
      opened.device.queue.submit([encoder.finish()]);
      await target.mapAsync(1);
      expect(new Float32Array(target.getMappedRange().slice(0)), slot.name).toEqual(params.slice(slot.offset, slot.offset + slot.size)); // prettier-ignore
      target.destroy();
    }
    expect(buffers.size).toBeGreaterThan(1);
    await expect(engine.loss(batch)).rejects.toThrow("an engine for logits only was asked for the loss");
    await expect(engine.gradient(batch, new Float32Array(layout.length))).rejects.toThrow("for logits only");
  },
);
