/** @file How many bytes of objects the engine leaves behind it, garbage or not, by V8's sampling profiler. */
import type { HeapProfiler } from "node:inspector";
import { Session } from "node:inspector/promises";

/** Bytes that functions of shared/engine/ allocate for each of `steps`, and what they call natively: not what happens while they wait. */
export async function allocated(
  { warmUp, steps }: { warmUp: number; steps: number },
  step: () => Promise<unknown>,
): Promise<number> {
  // Code that is not compiled yet boxes numbers, and compiling it allocates.
  for (let i = 0; i < warmUp; i++) await step();
  const session = new Session();
  session.connect();
  const options = { samplingInterval: 256, includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true }; // prettier-ignore
  await session.post("HeapProfiler.startSampling", options);
  for (let i = 0; i < steps; i++) await step();
  const { profile } = await session.post("HeapProfiler.stopSampling");
  session.disconnect();
  return bytesIn(profile.head, false) / steps;
}

function bytesIn({ callFrame, selfSize, children }: HeapProfiler.SamplingHeapProfileNode, ours: boolean): number {
  // A native function has no address: it is its caller's.
  const isOurs = callFrame.url === "" ? ours : callFrame.url.includes("/shared/engine/");
  return (isOurs ? selfSize : 0) + children.reduce((sum, child) => sum + bytesIn(child, isOurs), 0);
}
