/**
 * @file WebGPU in Node for tests: Dawn on whatever adapter there is, or on Chromium's SwiftShader, a software adapter that needs no
 * GPU. Missing, it is a visible skip; in CI it is an error.
 */
import { existsSync } from "node:fs";
import { test } from "vitest";
import type { OpenDevice } from "../../shared/engine/wgsl/device.ts";
import { openNodeDevice } from "../../worker-node/webgpuEngine.ts";

const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";

if (process.env["VK_ICD_FILENAMES"] === undefined && existsSync(swiftShader)) {
  process.env["VK_ICD_FILENAMES"] = swiftShader;
}

/** SwiftShader unrolls Vulkan's own clearing of workgroup memory: minutes of compiling where a loop takes a second. */
export const DAWN_OPTIONS: readonly string[] = [
  "disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
];

let opened: Promise<OpenDevice> | undefined;

/** One device for all tests of a file. */
export function testDevice(): Promise<OpenDevice> {
  opened ??= openNodeDevice(DAWN_OPTIONS);
  return opened;
}

const missing = await testDevice().then(
  () => null,
  (error: unknown) => `no WebGPU in Node: ${String(error)} (Debian: apt-get install chromium libvulkan1)`,
);

if (missing !== null && process.env["CI"] === "true") throw new Error(missing);

/** `test`, for what needs a GPU or something that plays one. */
export function gpuTest(name: string, body: () => Promise<void>): void {
  if (missing === null) test(name, body);
  else test(name, (context) => context.skip(missing));
}
