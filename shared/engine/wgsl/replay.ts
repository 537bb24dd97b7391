/** @file A plan on a device: pipelines, buffers and bind groups made once, then replayed as command buffers. */
import type { Dispatch, Place, Plan } from "./plan.ts";

/** GPUBufferUsage; its names are globals in browsers only. */
export const USAGE = { mapRead: 1, copySource: 4, copyTarget: 8, storage: 128 } as const;

export type Buffers = { readonly params: readonly GPUBuffer[]; readonly gradients: readonly GPUBuffer[] };

export type Replay = {
  readonly plan: Plan;
  /** Operations and bytes of all dispatches. */
  readonly work: number;
  /** What {@link Replay.upload} sends: every input at its place, as 32-bit words. */
  readonly staging: Int32Array;
  readonly upload: () => void;
  /** Records dispatches [from, to) into a pass of `encoder`. */
  readonly record: (
    encoder: GPUCommandEncoder,
    from: number,
    to: number,
    descriptor?: GPUComputePassDescriptor,
  ) => void;
  readonly bufferAt: (place: Place) => GPUBuffer;
  readonly dispose: () => void;
};

/** The device has no memory for our buffers. Says so in words of its own: drivers have a name each for it. */
export class OutOfMemory extends Error {
  constructor(details: string) {
    super(`out of memory: ${details}`);
  }
}

/**
 * Compiles the plan's pipelines, all at once and without blocking, and allocates its buffers. `compiled` holds pipelines of earlier
 * plans by their text, and gets the new ones. @throws OutOfMemory, or Error with the device's words.
 */
export async function createReplay(
  device: GPUDevice,
  plan: Plan,
  buffers: Buffers,
  {
    compiled,
    onProgress = () => {},
  }: { compiled: Map<string, GPUComputePipeline>; onProgress?: (done: number, all: number) => void },
): Promise<Replay> {
  let done = 0;
  const pipelines = await Promise.all(
    plan.pipelines.map(async (code, i) => {
      const pipeline = compiled.get(code) ?? (await compilePipeline(device, code, nameOf(plan, i)));
      compiled.set(code, pipeline);
      onProgress(++done, plan.pipelines.length);
      return pipeline;
    }),
  );

  device.pushErrorScope("out-of-memory");
  device.pushErrorScope("validation");
  const storage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  const make = (size: number) => device.createBuffer({ size, usage: storage });
  const activations = plan.activationBytes.map(make);
  const inputs = make(Math.max(plan.inputBytes, 4));
  const dispose = (): void => {
    for (const buffer of [...activations, inputs]) buffer.destroy();
  };
  const arenas = { ...buffers, inputs: [inputs], activations };
  const bufferAt = ({ arena, buffer }: Place): GPUBuffer => {
    const found = arenas[arena][buffer];
    if (!found) throw new Error(`the plan names buffer ${buffer} of ${arena}, there are ${arenas[arena].length}`);
    return found;
  };
  const groups = plan.dispatches.map(({ pipeline, bindings }) =>
    device.createBindGroup({
      layout: pipelines[pipeline]!.getBindGroupLayout(0),
      entries: bindings.map((place, binding) => ({
        binding,
        resource: { buffer: bufferAt(place), offset: place.offset, size: place.bytes },
      })),
    }),
  );
  const invalid = await device.popErrorScope();
  const noMemory = await device.popErrorScope();
  if (noMemory ?? invalid) {
    dispose();
    if (noMemory) throw new OutOfMemory(noMemory.message);
    throw new Error(`the plan does not fit the device: ${invalid?.message}`);
  }

  const staging = new Int32Array(plan.inputBytes / 4);
  const { queue } = device;
  return {
    plan,
    work: plan.dispatches.reduce((sum, { flops, bytes }) => sum + flops + bytes, 0),
    staging,
    upload: () => queue.writeBuffer(inputs, 0, staging),
    record: (encoder, from, to, descriptor) => {
      const pass = encoder.beginComputePass(descriptor);
      let current = -1;
      for (let i = from; i < to; i++) {
        const { pipeline, workgroups } = plan.dispatches[i]!;
        if (pipeline !== current) pass.setPipeline(pipelines[pipeline]!);
        current = pipeline;
        pass.setBindGroup(0, groups[i]);
        pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
      }
      pass.end();
    },
    bufferAt,
    dispose,
  };
}

/** @throws Error naming the kernel, with the compiler's words. */
export async function compilePipeline(device: GPUDevice, code: string, label: string): Promise<GPUComputePipeline> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code, label });
  const pipeline = device.createComputePipelineAsync({
    label,
    layout: "auto",
    compute: { module, entryPoint: "main" },
  });
  const invalid = device.popErrorScope();
  try {
    return await pipeline;
  } catch (error) {
    const words = (await invalid)?.message ?? (error instanceof Error ? error.message : String(error));
    throw new Error(`kernel "${label}" does not compile: ${words.slice(0, 1000)}`, { cause: error });
  }
}

function nameOf({ dispatches }: Plan, pipeline: number): string {
  return dispatches.find((dispatch) => dispatch.pipeline === pipeline)?.name ?? "";
}

/** Milliseconds of work a submit may hold: watchdogs reset a device that seems to hang, and the desktop wants its turns. */
export const SUBMIT_MS = 100;

/**
 * End of the dispatches from `from` on that are submitted together: estimated below {@link SUBMIT_MS}, or a single one.
 * `flopsPerMs`: what the device did so far; a dispatch also costs a byte's worth of arithmetic for each byte it moves.
 */
export function submitEnd(
  dispatches: readonly Pick<Dispatch, "flops" | "bytes">[],
  from: number,
  flopsPerMs: number,
): number {
  let work = 0;
  // By index: an iterator would leave an object for each dispatch of every step.
  for (let i = from; i < dispatches.length; i++) {
    const { flops, bytes } = dispatches[i]!;
    work += flops + bytes;
    if (i > from && work > SUBMIT_MS * flopsPerMs) return i;
  }
  return dispatches.length;
}
