/**
 * @file WebGPU in Node for tests: Dawn on whatever adapter there is, or on Chromium's SwiftShader, a software adapter that needs no
 * GPU. Missing, it is a visible skip; in CI it is an error.
 */
import { existsSync } from "node:fs";
import { test } from "vitest";
import type { OpenDevice } from "../../shared/engine/wgsl/device.ts";
import { openNodeDevice } from "../../worker-node/webgpuEngine.ts";

/** For processes that a test starts, too. */
const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";

if (process.env["VK_ICD_FILENAMES"] === undefined && existsSync(swiftShader)) {
  process.env["VK_ICD_FILENAMES"] = swiftShader;
}

let opened: Promise<OpenDevice> | undefined;

/** One device for all tests of a file. */
export function testDevice(): Promise<OpenDevice> {
  opened ??= openNodeDevice();
  return opened;
}

const missing = await testDevice().then(
  () => null,
  (error: unknown) => `no WebGPU in Node: ${String(error)} (Debian: apt-get install chromium libvulkan1)`,
);

if (missing !== null && process.env["CI"] === "true") throw new Error(missing);

const withoutF16 =
  missing ??
  ((await testDevice()).device.features.has("shader-f16")
    ? null
    : `${(await testDevice()).info.description} has no f16 (Debian: .ci/run fetches Mesa's lavapipe, which has)`);

/** Compiling for SwiftShader takes seconds; on a crowded machine, minutes. */
const TIMEOUT_MS = 600_000;

/** `test`, for what needs a GPU or something that plays one. */
export function gpuTest(name: string, body: () => Promise<void>): void {
  testUnless(missing, name, body);
}

/** `test`, for what needs one with f16, as with chooseLavapipe.ts. */
export function f16Test(name: string, body: () => Promise<void>): void {
  if (withoutF16 !== null && process.env["CI"] === "true") throw new Error(withoutF16);
  testUnless(withoutF16, name, body);
}

function testUnless(reason: string | null, name: string, body: () => Promise<void>): void {
  if (reason === null) test(name, body, TIMEOUT_MS);
  else test(name, (context) => context.skip(reason));
}
