/** @file The inner and outer optimizer on the device: θ, gradients and moments stay there; a step is two dispatches per buffer. */
import type { AdamWConfig } from "../../numerics/adamw.ts";
import type { ParamLayout } from "../../numerics/layout.ts";
import type { Segment } from "./arenas.ts";
import {
  adamwKernel,
  type ArenaKernel,
  DECAY_BLOCK,
  nesterovKernel,
  NORM_GROUPS,
  squaredNormKernel,
  stepUniform,
} from "./kernels/optimizer.ts";
import { compilePipeline, USAGE } from "./replay.ts";

type Common = {
  readonly learningRate: number;
  /** Factor on the gradient before clipping: 1/tokens for a sum. */
  readonly gradientScale: number;
  /** 0: no clipping. */
  readonly clipNorm: number;
};

export type OptimizerStep =
  | (Common & AdamWConfig & { readonly kind: "adamw"; /** t, 1 for the first. */ readonly step: number })
  | (Common & { readonly kind: "nesterov"; readonly momentum: number });

export type GpuOptimizer = {
  /** Records the step; its numbers are sent with the next submit. */
  readonly record: (encoder: GPUCommandEncoder, step: OptimizerStep) => void;
  /** Moments, for tests and checkpoints: AdamW's m and v, or Nesterov's v, by segment. */
  readonly state: readonly (readonly GPUBuffer[])[];
  readonly dispatches: number;
  readonly dispose: () => void;
};

type Recorded = Pick<ArenaKernel, "workgroups"> & {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
};

/** GPUBufferUsage.UNIFORM */
const UNIFORM = 64;

/** Moments start at 0. */
export async function createOptimizer(
  device: GPUDevice,
  kind: OptimizerStep["kind"],
  {
    layout,
    segments,
    params,
    gradients,
  }: {
    layout: ParamLayout;
    segments: readonly Segment[];
    params: readonly GPUBuffer[];
    gradients: readonly GPUBuffer[];
  },
): Promise<GpuOptimizer> {
  const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  const sums = device.createBuffer({ size: 4 * NORM_GROUPS * segments.length, usage });
  const numbers = device.createBuffer({ size: 48, usage: UNIFORM | USAGE.copyTarget });
  const state = segments.map(({ start, end }) =>
    (kind === "adamw" ? [0, 1] : [0]).map(() => device.createBuffer({ size: 4 * (end - start), usage })),
  );
  const decay = segments.map((segment) => {
    const bits = decayBits(layout, segment);
    const buffer = device.createBuffer({ size: bits.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, bits);
    return buffer;
  });
  const make = async (
    { wgsl, workgroups }: ArenaKernel,
    name: string,
    buffers: readonly GPUBufferBinding[],
  ): Promise<Recorded> => {
    const pipeline = await compilePipeline(device, wgsl, name);
    const entries = buffers.map((resource, binding) => ({ binding, resource }));
    return { pipeline, workgroups, group: device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }) };
  };
  const norms: Recorded[] = [];
  const steps: Recorded[] = [];
  for (const [i, { start, end }] of segments.entries()) {
    // The loss lies behind the last gradient: it is no part of the norm.
    const gradient = { buffer: gradients[i]!, size: 4 * (end - start) };
    const own = { buffer: sums, offset: 4 * NORM_GROUPS * i, size: 4 * NORM_GROUPS };
    norms.push(await make(squaredNormKernel(end - start), "squared norm", [gradient, own]));
    const kernel = kind === "adamw" ? adamwKernel(end - start) : nesterovKernel(end - start);
    const moments = state[i]!.map((buffer) => ({ buffer }));
    const flags = kind === "adamw" ? [{ buffer: decay[i]! }] : [];
    const buffers = [{ buffer: numbers }, gradient, { buffer: sums }, { buffer: params[i]! }, ...moments, ...flags];
    steps.push(await make(kernel, kind, buffers));
  }
  return {
    state,
    dispatches: norms.length + steps.length,
    record: (encoder, step) => {
      if (step.kind !== kind) throw new Error(`a step of ${step.kind} for an optimizer that is ${kind}`);
      device.queue.writeBuffer(numbers, 0, stepUniform(step, segments.length));
      const pass = encoder.beginComputePass();
      for (const { pipeline, group, workgroups } of [...norms, ...steps]) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.end();
    },
    dispose: () => {
      for (const buffer of [sums, numbers, ...decay, ...state.flat()]) buffer.destroy();
    },
  };
}

/** A bit for each block of 256 elements: set where weights decay. */
function decayBits({ slots }: ParamLayout, { start, end }: Segment): Uint32Array<ArrayBuffer> {
  const bits = new Uint32Array(Math.ceil((end - start) / DECAY_BLOCK / 32));
  for (const { offset, size, decay } of slots) {
    if (!decay || offset < start || offset >= end) continue;
    for (let block = (offset - start) / DECAY_BLOCK; DECAY_BLOCK * block < offset - start + size; block++) {
      bits[block >> 5]! |= 1 << (block & 31);
    }
  }
  return bits;
}
