/**
 * @file What the compiled WebGPU step costs a browser's worker besides the device's time: JavaScript, and objects left for the
 * collector, those of the browser's own WebGPU included. In Chromium on its software adapter, which gets the step in many submits, a GPU
 * in one: JavaScript is measured both ways. The device's time is not printed: it says nothing about GPUs.
 *
 *     npm run bench -- webgpuInChromium [--steps 30]
 */
import { parseArgs } from "node:util";
import type { HeapProfiler } from "node:inspector";
import { serveHarness } from "../browser/backends/harness.ts";
import type { StepCosts } from "../browser/backends/page.ts";

const WARM_UP = 2000;
const COUNTED = 1000;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({ args, options: { steps: { type: "string", default: "30" } } });
  const harness = await serveHarness();
  const { page } = await harness.open();
  console.log(`Chromium ${page.context().browser()?.version()}; its clock has steps of 0.1 ms`);
  const { here, atOnce } = await page.evaluate((steps) => globalThis.harness.stepCosts(steps), Number(flags.steps));
  console.log(`JavaScript a step, tiny at 12×64 tokens, submitting included: ${said(here)}`);
  console.log(`  by a clock that shows it a fast GPU: ${said(atOnce)}`);

  const steps = await page.evaluateHandle(() => globalThis.harness.startSmallSteps());
  await steps.evaluate((go, count) => go(count), WARM_UP);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("HeapProfiler.enable");
  await devtools.send("HeapProfiler.startSampling", {
    samplingInterval: 256,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  await steps.evaluate((go, count) => go(count), COUNTED);
  const { profile } = await devtools.send("HeapProfiler.stopSampling");
  console.log(
    `objects a step, all that the page makes meanwhile: ${(bytesIn(profile.head) / COUNTED).toFixed(0)} bytes`,
  );
  await harness.close();
}

function bytesIn({ selfSize, children }: HeapProfiler.SamplingHeapProfileNode): number {
  return selfSize + children.reduce((sum, child) => sum + bytesIn(child), 0);
}

function said({ hostMs, submits }: StepCosts): string {
  const sorted = hostMs.toSorted((a, b) => a - b);
  const [least, median] = [sorted[0] ?? NaN, sorted[sorted.length >> 1] ?? NaN];
  return `${least.toFixed(1)} / ${median.toFixed(1)} ms (least / median of ${sorted.length}), in ${submits} submit${submits === 1 ? "" : "s"}`;
}
