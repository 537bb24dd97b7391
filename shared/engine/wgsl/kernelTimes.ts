/** @file What each dispatch of a step takes on the device, by its own clock: timestamps around a pass of its own. */
import type { Dispatch } from "./plan.ts";
import { type Replay, USAGE } from "./replay.ts";

/** GPUBufferUsage.QUERY_RESOLVE, GPUMapMode.READ. */
const QUERY_RESOLVE = 512;
const MAP_READ = 1;

/** WebGPU's own bound on a query set. */
const MAX_QUERIES = 4096;

export function canTimeKernels(device: GPUDevice): boolean {
  return device.features.has("timestamp-query");
}

/**
 * Milliseconds of each dispatch, the least of `repeats` steps: with whatever the last step uploaded, its results are thrown away. A
 * pass of its own costs a dispatch a little, and browsers round timestamps (Chromium to 0.1 ms), so the sum is above a step's time.
 *
 * @throws Error when the device has no `timestamp-query`, or the plan more dispatches than a query set takes.
 */
export async function kernelTimes(device: GPUDevice, replay: Replay, repeats = 3): Promise<number[]> {
  const { dispatches } = replay.plan;
  const count = 2 * dispatches.length;
  if (!canTimeKernels(device)) throw new Error("this device has no timestamps");
  if (count > MAX_QUERIES) throw new Error(`${dispatches.length} dispatches, timestamps for ${MAX_QUERIES / 2}`);
  const querySet = device.createQuerySet({ type: "timestamp", count });
  const resolved = device.createBuffer({ size: 8 * count, usage: QUERY_RESOLVE | USAGE.copySource });
  const read = device.createBuffer({ size: 8 * count, usage: USAGE.mapRead | USAGE.copyTarget });
  const least = dispatches.map(() => Infinity);
  try {
    for (let repeat = 0; repeat < repeats; repeat++) {
      const encoder = device.createCommandEncoder();
      for (const i of dispatches.keys()) {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
        replay.record(encoder, i, i + 1, { timestampWrites });
      }
      encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, read, 0, 8 * count);
      device.queue.submit([encoder.finish()]);
      await read.mapAsync(MAP_READ);
      const stamps = new BigUint64Array(read.getMappedRange());
      // Clocks of some devices run backwards when they change their pace.
      for (const i of dispatches.keys()) least[i] = Math.min(least[i]!, Math.max(0, Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1e6)); // prettier-ignore
      read.unmap();
    }
  } finally {
    querySet.destroy();
    resolved.destroy();
    read.destroy();
  }
  return least;
}

export type KindOfKernel = {
  /** The first word of the kernel's name: "matMul". */
  readonly name: string;
  readonly dispatches: number;
  readonly ms: number;
  readonly flops: number;
  readonly bytes: number;
};

/** Kernels of one kind together, the most expensive first. */
export function byKind(
  dispatches: readonly Pick<Dispatch, "name" | "flops" | "bytes">[],
  ms: readonly number[],
): KindOfKernel[] {
  const kinds = new Map<string, KindOfKernel>();
  for (const [i, { name: whole, flops, bytes }] of dispatches.entries()) {
    const [name = whole] = whole.split(" ");
    const sum = kinds.get(name) ?? { name, dispatches: 0, ms: 0, flops: 0, bytes: 0 };
    kinds.set(name, {
      name,
      dispatches: sum.dispatches + 1,
      ms: sum.ms + (ms[i] ?? 0),
      flops: sum.flops + flops,
      bytes: sum.bytes + bytes,
    });
  }
  return [...kinds.values()].sort((a, b) => b.ms - a.ms);
}
