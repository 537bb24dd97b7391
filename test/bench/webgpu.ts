/**
 * @file What the compiled WebGPU step costs besides the device's time: dispatches, pipelines, trace and plan, compiling, JavaScript a
 * step. On a software adapter the device's time is not printed: it says nothing about GPUs.
 *
 *     npm run bench -- webgpu [--steps 30]      (without a GPU: VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json)
 */
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { stepGraph } from "../../shared/engine/stepGraph.ts";
import { limitsOf } from "../../shared/engine/wgsl/device.ts";
import type { WgslEngine } from "../../shared/engine/wgsl/engine.ts";
import { compile } from "../../shared/engine/wgsl/plan.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { initialParams } from "../../shared/model/init.ts";
import { type ModelSpec, presets } from "../../shared/model/spec.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { createEngineOn, openNodeDevice } from "../../worker-node/webgpuEngine.ts";
import { randomBatch } from "../support/engineCases.ts";

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({ args, options: { steps: { type: "string", default: "30" } } });
  const opened = await openNodeDevice();
  const spec: ModelSpec = { kind: "gpt", ...presets.tiny, vocabulary: 65, dropout: 0 };
  const layout = layoutOf(gptTensors(spec));
  const batch = randomBatch(spec, 12, 1);
  const startMs = performance.now();
  const graph = stepGraph("gradient", spec, layout, 12);
  const tracedMs = performance.now();
  const plan = compile(graph, { layout, limits: limitsOf(opened.device), dropout: 0 });
  const plannedMs = performance.now();
  const engine = await createEngineOn(opened, { spec, layout, planFor: () => plan });
  await engine.load(initialParams(spec, layout, 1));
  const before = process.cpuUsage();
  await engine.replayFor("gradient", 12);
  const compileMs = performance.now() - plannedMs;
  const { user, system } = process.cpuUsage(before);
  const gradient = new Float32Array(layout.length);
  const [hostMs, waitMs]: [number[], number[]] = [[], []];
  for (let i = 0; i < Number(flags.steps); i++) {
    await engine.gradient(batch, gradient);
    hostMs.push(engine.lastStep().hostMs);
    waitMs.push(engine.lastStep().waitMs);
  }
  const { vendor, architecture, description } = opened.info;
  console.log(`${vendor} ${architecture} ${description}`.trim() + (opened.isSoftware ? ", a software adapter" : ""));
  console.log(`tiny, 12×64 tokens: ${plan.dispatches.length} dispatches, ${plan.pipelines.length} pipelines`);
  console.log(`trace ${(tracedMs - startMs).toFixed(0)} ms, plan ${(plannedMs - tracedMs).toFixed(0)} ms`);
  console.log(`pipelines ${compileMs.toFixed(0)} ms, ${((user + system) / 1e6).toFixed(2)} s of processor time`);
  console.log(`JavaScript a step, submitting included: ${spread(hostMs)}`);
  console.log(`recording alone, nothing else running: ${spread(await recording(opened.device, engine))}`);
  if (!opened.isSoftware) console.log(`until the gradient is there: ${spread(waitMs)}`);
  await engine.dispose();
  opened.device.destroy();
  process.exit();
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
