/** @file A WebGPU device of our own, with the adapter's limits, that reports its errors and its end: WebGPU throws neither. */
import type { PlanLimits } from "./plan.ts";

export type OpenDevice = {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  /** A processor that plays GPU: correct, and slower than the other engines. */
  readonly isSoftware: boolean;
  /** The first error that the device reported without anybody having asked, or null. */
  readonly fault: () => string | null;
  /** Resolves with the reason when the device goes away. */
  readonly lost: Promise<string>;
};

/** More than the defaults (128 MiB a binding is one matrix of GPT-2's vocabulary). */
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
  "maxComputeWorkgroupSizeX",
  "maxStorageBuffersPerShaderStage",
] as const;

/** Asked for where the adapter has them; whether they are used is for variant.ts to say. */
const FEATURES = ["timestamp-query", "subgroups", "shader-f16"];

/** Nothing there to run on: other uses of WebGPU need not be tried. */
export class NoAdapter extends Error {}

/** @throws NoAdapter, or Error when the adapter has no device to give. */
export async function openDevice(gpu: GPU): Promise<OpenDevice> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new NoAdapter("there is WebGPU, but no graphics adapter for it");
  const device = await adapter.requestDevice({
    // TypeScript's own list of names is older.
    requiredFeatures: FEATURES.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])),
  });
  let fault: string | null = null;
  device.onuncapturederror = ({ error }) => {
    fault ??= `WebGPU error: ${error.message.replaceAll(/\s+/g, " ").slice(0, 250)}`;
  };
  const lost = device.lost.then(({ reason, message }) => `the graphics device was lost (${reason}): ${message}`);
  return { device, info: adapter.info, isSoftware: isSoftware(adapter.info), fault: () => fault, lost };
}

function isSoftware({ vendor, architecture, device, description, isFallbackAdapter }: GPUAdapterInfo): boolean {
  return isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software|basic render/i.test(`${vendor} ${architecture} ${device} ${description}`); // prettier-ignore
}

/** What plans for this device must keep to. */
export function limitsOf({ limits }: GPUDevice): PlanLimits {
  return {
    maxBindings: limits.maxStorageBuffersPerShaderStage,
    maxWorkgroupStorageBytes: limits.maxComputeWorkgroupStorageSize,
    maxInvocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
    // Byte offsets and indices in kernels are u32.
    maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, 2 ** 31),
    maxBufferBytes: Math.min(limits.maxBufferSize, 2 ** 31),
  };
}
