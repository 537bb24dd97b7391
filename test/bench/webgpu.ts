/**
 * @file What the compiled WebGPU step costs besides the device's time: dispatches, pipelines, trace and plan, compiling, JavaScript and
 * garbage a step; in the variant that the device gets. A software adapter gets the step in many submits, a GPU in one: JavaScript is
 * measured both ways. On a software adapter the device's time is not printed: it says nothing about GPUs. On others each kind of
 * kernel has its line.
 *
 *     npm run bench -- webgpu [--steps 30]      (without a GPU: VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json)
 */
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { stepGraph } from "../../shared/engine/stepGraph.ts";
import { limitsOf, type OpenDevice } from "../../shared/engine/wgsl/device.ts";
import type { WgslEngine } from "../../shared/engine/wgsl/engine.ts";
import { byKind, canTimeKernels, kernelTimes } from "../../shared/engine/wgsl/kernelTimes.ts";
import { compile } from "../../shared/engine/wgsl/plan.ts";
import { chooseVariant } from "../../shared/engine/wgsl/selfTest.ts";
import type { Variant } from "../../shared/engine/wgsl/variant.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { initialParams } from "../../shared/model/init.ts";
import { type ModelSpec, presets } from "../../shared/model/spec.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { createEngineOn, openNodeDevice } from "../../worker-node/webgpuEngine.ts";
import { allocated } from "../support/allocated.ts";
import { randomBatch } from "../support/engineCases.ts";

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({ args, options: { steps: { type: "string", default: "30" } } });
  const opened = await openNodeDevice();
  const spec: ModelSpec = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 };
  const layout = layoutOf(gptTensors(spec));
  const batch = randomBatch(spec, 12, 1);
  const create = (variant: Variant) => createEngineOn(opened, { spec, layout, variant });
  const { variant } = await chooseVariant({ opened, create, spec, layout, batchSize: 12, storage: "f32" });
  const startMs = performance.now();
  const graph = stepGraph("gradient", spec, layout, 12);
  const tracedMs = performance.now();
  const plan = compile(graph, { layout, limits: limitsOf(opened.device), dropout: 0, variant });
  const plannedMs = performance.now();
  const engine = await createEngineOn(opened, { spec, layout, planFor: () => plan });
  await engine.load(initialParams(spec, layout, 1));
  const before = process.cpuUsage();
  await engine.replayFor("gradient", 12);
  const compileMs = performance.now() - plannedMs;
  const { user, system } = process.cpuUsage(before);
  const gradient = new Float32Array(layout.length);
  const javascript = async (engine: WgslEngine, clock = 1): Promise<string> => {
    const step = () => engine.gradient(batch, gradient);
    // Until then it is not known how fast the device is.
    await step();
    const hostMs: number[] = [];
    for (let i = 0; i < Number(flags.steps); i++) {
      await step();
      hostMs.push(engine.lastStep().hostMs / clock);
    }
    const { submits } = engine.lastStep();
    return `${spread(hostMs)}, in ${submits} submit${submits === 1 ? "" : "s"}`;
  };
  const { vendor, architecture, description } = opened.info;
  console.log(`${vendor} ${architecture} ${description}`.trim() + (opened.isSoftware ? ", a software adapter" : ""));
  console.log(`tiny, 12×64 tokens: ${plan.dispatches.length} dispatches, ${plan.pipelines.length} pipelines`);
  console.log(`trace ${(tracedMs - startMs).toFixed(0)} ms, plan ${(plannedMs - tracedMs).toFixed(0)} ms`);
  console.log(`pipelines ${compileMs.toFixed(0)} ms, ${((user + system) / 1e6).toFixed(2)} s of processor time`);
  console.log(`JavaScript a step, submitting included: ${await javascript(engine)}`);
  const waitMs = engine.lastStep().waitMs;
  if (engine.lastStep().submits > 1) {
    const slow = 1e-6;
    const nowMs = (): number => performance.now() * slow;
    const asFast = await createEngineOn(opened, { spec, layout, planFor: () => plan, nowMs });
    await asFast.load(initialParams(spec, layout, 1));
    console.log(`  by a clock that shows it a fast GPU: ${await javascript(asFast, slow)}`);
    await asFast.dispose();
  }
  console.log(`objects a step, those of the WebGPU binding included: ${(await garbage(opened)).toFixed(0)} bytes`);
  console.log(`recording alone, nothing else running: ${spread(await recording(opened.device, engine))}`);
  if (!opened.isSoftware) {
    console.log(`until the gradient is there: ${waitMs.toFixed(2)} ms`);
    if (canTimeKernels(opened.device)) await printKernels(opened.device, engine);
  }
  await engine.dispose();
  opened.device.destroy();
  process.exit();
}

/**
 * Bytes of objects that a step leaves, in one submit. Of a model so small that code is warm soon: the step has nothing for each
 * dispatch. What Dawn allocates while it waits in Node is not of a step, but of a millisecond, and not counted.
 */
async function garbage(opened: OpenDevice): Promise<number> {
  const spec: ModelSpec = { kind: "gpt", layers: 1, heads: 1, width: 16, context: 8, vocabulary: 7, bias: false, dropout: 0 }; // prettier-ignore
  const layout = layoutOf(gptTensors(spec));
  const engine = await createEngineOn(opened, { spec, layout });
  await engine.load(initialParams(spec, layout, 1));
  const batch = randomBatch(spec, 1, 1);
  const gradient = new Float32Array(layout.length);
  const bytes = await allocated({ warmUp: 500, steps: 500 }, () => engine.gradient(batch, gradient));
  await engine.dispose();
  return bytes;
}

async function printKernels(device: GPUDevice, engine: WgslEngine): Promise<void> {
  const replay = await engine.replayFor("gradient", 12);
  const { dispatches } = replay.plan;
  for (const { name, dispatches: count, ms, flops, bytes } of byKind(dispatches, await kernelTimes(device, replay))) {
    const rates = `${(flops / ms / 1e6).toFixed(0)} GFLOP/s, ${(bytes / ms / 1e6).toFixed(0)} GB/s`;
    console.log(
      `  ${name.padEnd(16)} ${String(count).padStart(3)} dispatches ${ms.toFixed(3).padStart(9)} ms  ${rates}`,
    );
  }
}

/** Between steps the device's threads are idle: on a software adapter they are what the other figure waits for. */
async function recording(device: GPUDevice, engine: WgslEngine): Promise<number[]> {
  const replay = await engine.replayFor("gradient", 12);
  return Array.from({ length: 200 }, () => {
    const startMs = performance.now();
    const encoder = device.createCommandEncoder();
    replay.record(encoder, 0, replay.plan.dispatches.length);
    encoder.finish();
    return performance.now() - startMs;
  });
}

function spread(ms: readonly number[]): string {
  const sorted = ms.toSorted((a, b) => a - b);
  return `${sorted[0]?.toFixed(2)} / ${sorted[sorted.length >> 1]?.toFixed(2)} ms (least / median of ${sorted.length})`;
}
