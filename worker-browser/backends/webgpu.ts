/** @file tfjs on WebGPU, on a device of our own: tfjs' own one reports neither its errors nor its end. */
import { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import * as tf from "@tensorflow/tfjs-core";
import type { StartedBackend } from "../engine.ts";
import { describeAdapter } from "./adapter.ts";

/** What tfjs kernels make use of beyond WebGPU's defaults (128 MiB a binding is one matrix of GPT-2's vocabulary). */
const LIMITS = [
  "maxComputeWorkgroupStorageSize",
  "maxComputeWorkgroupsPerDimension",
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupSizeX",
  "maxComputeInvocationsPerWorkgroup",
] as const;

/** @throws Error when the browser has no adapter to give, or no device. */
export async function start(onCompiled: (programs: number) => void): Promise<StartedBackend> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("the browser has WebGPU, but no graphics adapter for it");
  const device = await adapter.requestDevice({
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])),
  });

  let fault: string | null = null;
  device.addEventListener("uncapturederror", ({ error }) => {
    fault ??= `WebGPU error: ${error.message.replaceAll(/\s+/g, " ").slice(0, 250)}`;
  });
  // tfjs compiles each program when it first needs it; counting them is all that there is to show of it.
  let programs = 0;
  const compile = device.createComputePipeline.bind(device);
  device.createComputePipeline = (descriptor) => {
    onCompiled(++programs);
    return compile(descriptor);
  };
  const lost = device.lost.then(({ reason, message }) => `the graphics device was lost (${reason}): ${message}`);

  tf.removeBackend("webgpu");
  tf.registerBackend("webgpu", () => new WebGPUBackend(device, adapter.info), 3);
  return { device: describeAdapter(adapter.info), fault: () => fault, lost };
}
