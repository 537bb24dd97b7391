/** @file The gradient's arena as `i8`, encoded on the device behind a step: a quarter of the bytes is read back. */
import { i8 } from "../../codec/blockInt.ts";
import { ALIGNMENT_OF_LOSS, type Segment } from "./arenas.ts";
import { encodedWords, encodeI8Kernel, NOT_FINITE } from "./kernels/blockInt.ts";
import type { ArenaKernel } from "./kernels/optimizer.ts";
import type { PlanLimits } from "./plan.ts";
import { compilePipeline, USAGE } from "./replay.ts";

export type GradientEncoder = {
  /** Encodes what is in the arena by then, and copies it and the loss to where they can be read. */
  readonly record: (encoder: GPUCommandEncoder) => void;
  /** Overwrites payload, of the arena's elements; returns the loss. @throws RangeError when a value is not finite. */
  readonly read: (payload: Uint8Array) => Promise<number>;
  readonly dispose: () => void;
};

export type CreateEncoder = typeof createGradientEncoder;

/** Elements whose exponents fill the 256 bytes at which a binding may begin. */
const PIECE = 65_536;

/** `gradients`: a buffer for each segment, the loss behind the last one's elements. @throws Error with the device's words. */
export async function createGradientEncoder(
  device: GPUDevice,
  {
    segments,
    gradients,
    limits,
    compiled,
  }: {
    segments: readonly Segment[];
    gradients: readonly GPUBuffer[];
    limits: Pick<PlanLimits, "maxBindingBytes">;
    compiled: Map<string, GPUComputePipeline>;
  },
): Promise<GradientEncoder> {
  const most = Math.max(PIECE, Math.floor(limits.maxBindingBytes / 4 / PIECE) * PIECE);
  const pipelineOf = async ({ wgsl }: ArenaKernel): Promise<GPUComputePipeline> => {
    const pipeline = compiled.get(wgsl) ?? (await compilePipeline(device, wgsl, "encode i8"));
    compiled.set(wgsl, pipeline);
    return pipeline;
  };
  const length = segments.at(-1)!.end;
  const make = (size: number, usage: number): GPUBuffer => device.createBuffer({ size, usage });
  const parts = segments.map((segment, i) => {
    const words = encodedWords(lengthOf(segment));
    const [exponents, quants] = [4 * words.exponents, 4 * words.quants];
    return {
      ...segment,
      gradient: gradients[i]!,
      exponents: make(exponents, USAGE.storage | USAGE.copySource),
      quants: make(quants, USAGE.storage | USAGE.copySource),
      lossAt: exponents + quants,
      readback: make(exponents + quants + ALIGNMENT_OF_LOSS, USAGE.mapRead | USAGE.copyTarget),
    };
  });
  const dispatches = await Promise.all(
    parts.flatMap((part) =>
      Array.from({ length: Math.ceil(lengthOf(part) / most) }, async (_, i) => {
        const from = i * most;
        const elements = Math.min(most, lengthOf(part) - from);
        const kernel = encodeI8Kernel(elements);
        const pipeline = await pipelineOf(kernel);
        const words = encodedWords(elements);
        const resources = [
          { buffer: part.gradient, offset: 4 * from, size: 4 * elements },
          { buffer: part.exponents, offset: from / i8.block, size: 4 * words.exponents },
          { buffer: part.quants, offset: from, size: elements },
        ];
        const entries = resources.map((resource, binding) => ({ binding, resource }));
        const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
        return { pipeline, group, workgroups: kernel.workgroups };
      }),
    ),
  );

  return {
    record: (encoder) => {
      const pass = encoder.beginComputePass();
      for (const { pipeline, group, workgroups } of dispatches) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.end();
      for (const part of parts) {
        encoder.copyBufferToBuffer(part.exponents, 0, part.readback, 0, part.exponents.size);
        encoder.copyBufferToBuffer(part.quants, 0, part.readback, part.exponents.size, part.quants.size);
      }
      const last = parts.at(-1)!;
      encoder.copyBufferToBuffer(last.gradient, 4 * lengthOf(last), last.readback, last.lossAt, 4);
    },
    read: async (payload) => {
      let isFinite = true;
      let loss = NaN;
      for (const { start, end, exponents, lossAt, readback } of parts) {
        await readback.mapAsync(MAP_READ);
        const range = readback.getMappedRange();
        const blocks = new Uint8Array(range, 0, (end - start) / i8.block);
        if (blocks.includes(NOT_FINITE)) isFinite = false;
        payload.set(blocks, start / i8.block);
        payload.set(new Uint8Array(range, exponents.size, end - start), length / i8.block + start);
        loss = new Float32Array(range, lossAt, 1)[0]!;
        readback.unmap();
      }
      if (!isFinite) throw new RangeError("the gradient is not finite");
      return loss;
    },
    dispose: () => {
      for (const { exponents, quants, readback } of parts) for (const buffer of [exponents, quants, readback]) buffer.destroy(); // prettier-ignore
    },
  };
}

function lengthOf({ start, end }: Segment): number {
  return end - start;
}

/** GPUMapMode.READ */
const MAP_READ = 1;
