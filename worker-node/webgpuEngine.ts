/** @file The compiled step on a GPU from Node: Dawn, Chromium's WebGPU, from the optional package `webgpu`. */
import { readdirSync } from "node:fs";
import type { Codec } from "../shared/codec/codec.ts";
import type { StepKind } from "../shared/engine/stepKind.ts";
import { stepGraph } from "../shared/engine/stepGraph.ts";
import { limitsOf, type OpenDevice, openDevice } from "../shared/engine/wgsl/device.ts";
import { createWgslEngine, type WgslEngine, type WgslEngineOptions } from "../shared/engine/wgsl/engine.ts";
import { compile, type Plan, type PlanLimits } from "../shared/engine/wgsl/plan.ts";
import { chooseEncoding, chooseVariant } from "../shared/engine/wgsl/selfTest.ts";
import { PLAIN, type Storage, type Variant } from "../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import { hasVulkanDriver } from "./vulkanDriver.ts";

/** What `create` returns must outlive every device: without a reference Dawn frees it under them, and the process crashes. */
const kept: GPU[] = [];

/**
 * SwiftShader unrolls Vulkan's own clearing of workgroup memory, element by element: ten times the compiling. With this Dawn
 * writes a loop instead.
 */
const FOR_SOFTWARE = ["disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension"];

/** @throws Error when the package is missing, or the machine has no adapter. */
export async function openNodeDevice(): Promise<OpenDevice> {
  const { create } = await import("webgpu").catch((error: unknown) => {
    throw new Error('the optional package "webgpu" is not installed or does not load here', { cause: error });
  });
  const open = (options: string[]): Promise<OpenDevice> => {
    const gpu = create(options);
    kept.push(gpu);
    return openDevice(gpu);
  };
  const opened = await open([]);
  if (!opened.isSoftware) return opened;
  opened.device.destroy();
  return open(FOR_SOFTWARE);
}

/**
 * Whether there is a GPU worth using: a software adapter is slower than the processor it runs on, and for those who ask for
 * WebGPU by name.
 */
export async function hasGpu(): Promise<boolean> {
  if (process.platform === "linux" && !hasVulkanDriver(process.env, namesIn)) return false;
  const opened = await openNodeDevice().catch(() => null);
  opened?.device.destroy();
  return opened !== null && !opened.isSoftware;
}

/** A folder that is not there, or not ours to read, is none to the loader either. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/**
 * With the variant that this device computes right; `refused`: what it offers besides, and why that is not used. `batchSize`: samples of
 * a usual step. @throws Error with the reason when there is no adapter, or it cannot run the model.
 */
export async function createWebgpuEngine({
  spec,
  layout,
  batchSize,
  storage,
  codec,
}: {
  spec: ModelSpec;
  layout: ParamLayout;
  batchSize: number;
  /** What activations may be kept as. */
  storage: Storage;
  /** How gradients travel. */
  codec: Codec;
}): Promise<{ engine: WgslEngine; refused: readonly string[] }> {
  const opened = await openNodeDevice();
  try {
    const compiled = new Map<string, GPUComputePipeline>();
    const create = (variant: Variant, onOverflow: (count: number) => void) =>
      createEngineOn(opened, { spec, layout, variant, compiled, onOverflow });
    const { variant, refused } = await chooseVariant({ opened, create, spec, layout, batchSize, storage });
    const { createEncoder, refused: unused } = await chooseEncoding(opened.device, codec);
    const engine = await createEngineOn(opened, { spec, layout, variant, compiled, createEncoder });
    const dispose = async (): Promise<void> => {
      await engine.dispose();
      opened.device.destroy();
    };
    return { engine: { ...engine, dispose }, refused: [...refused, ...unused] };
  } catch (error) {
    opened.device.destroy();
    throw error;
  }
}

/** On a device that the caller opened, and closes. */
export function createEngineOn(
  opened: Pick<OpenDevice, "device" | "fault">,
  {
    spec,
    layout,
    limits = limitsOf(opened.device),
    variant = PLAIN,
    ...options
  }: { spec: ModelSpec; layout: ParamLayout; limits?: PlanLimits; variant?: Variant } & Partial<WgslEngineOptions>,
): Promise<WgslEngine> {
  const planFor = (kind: StepKind, batchSize: number, storage: Storage): Plan =>
    compile(stepGraph(kind, spec, layout, batchSize), {
      layout,
      limits,
      dropout: spec.dropout,
      variant: { ...variant, storage },
    });
  return createWgslEngine({
    opened,
    spec,
    layout,
    planFor,
    storage: variant.storage,
    onOverflow: sayOverflow,
    limits,
    nowMs: () => performance.now(),
    onSmallerBatch: saySmallerBatch,
    ...options,
  });
}

/** Once, twice, four times, …: a run that has many of them should not use f16, and one has said so by then. */
function sayOverflow(count: number): void {
  if (Number.isInteger(Math.log2(count))) {
    process.stderr.write(`${count} gradient(s) were beyond 16-bit floats and computed again in 32 bits\n`);
  }
}

function saySmallerBatch(samples: number): void {
  process.stderr.write(`the batch does not fit the GPU's memory: it is computed in parts of ${samples}\n`);
}
