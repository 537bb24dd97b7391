/** @file The compiled step on WebGPU: the traced step as a few fused shaders, on the device of its thread. Loads no tfjs where all goes well. */
import type { Codec } from "../../shared/codec/codec.ts";
import type { Engine } from "../../shared/engine/engine.ts";
import { limitsOf } from "../../shared/engine/wgsl/device.ts";
import type { CreateEncoder } from "../../shared/engine/wgsl/encoder.ts";
import { createWgslEngine, type WgslEngine } from "../../shared/engine/wgsl/engine.ts";
import { byKind, canTimeKernels, type KindOfKernel, kernelTimes } from "../../shared/engine/wgsl/kernelTimes.ts";
import { compile } from "../../shared/engine/wgsl/plan.ts";
import { chooseEncoding, chooseVariant } from "../../shared/engine/wgsl/selfTest.ts";
import { PLAIN, type Storage, type Variant } from "../../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import type { StartedBackend } from "../engine.ts";
import { type GraphSource, openStepGraphs } from "../stepGraphs.ts";
import { describeAdapter } from "./adapter.ts";
import { sharedDevice } from "./device.ts";

/**
 * With the variant that this device computes right; `refused`: what it offers besides, and why that is not used. `batchSize`: samples of
 * a usual step. Where no coordinator examines engines, it proves itself on a small model first, against tfjs. @throws Error with the reason why it
 * cannot be used; the device stays for who comes next.
 */
export async function startCompiled(
  {
    spec,
    layout,
    batchSize,
    storage,
    codec,
    graphs: source,
  }: {
    spec: ModelSpec;
    layout: ParamLayout;
    batchSize: number;
    storage: Storage;
    /** How gradients travel. */
    codec: Codec;
    graphs: GraphSource | null;
  },
  onCompiled: (programs: number) => void,
): Promise<StartedBackend & { readonly engine: Engine; readonly refused: readonly string[] }> {
  const fetching = openStepGraphs(source, { spec, layout });
  const opened = await sharedDevice();
  const compiled = new Map<string, GPUComputePipeline>();
  let programs = 0;
  const engineOf = (
    spec: ModelSpec,
    layout: ParamLayout,
    graphFor: Awaited<typeof fetching>["graphFor"],
    variant: Variant,
    onOverflow: (count: number) => void,
    createEncoder: CreateEncoder | null = null,
  ): Promise<WgslEngine> =>
    createWgslEngine({
      createEncoder,
      opened,
      spec,
      layout,
      planFor: async (kind, batchSize, stored) =>
        compile(await graphFor(kind, batchSize), {
          layout,
          limits: limitsOf(opened.device),
          dropout: spec.dropout,
          variant: { ...variant, storage: stored },
        }),
      storage: variant.storage,
      onOverflow,
      compiled,
      nowMs: () => performance.now(),
      onProgress: () => onCompiled(++programs),
    });
  const { examined, graphFor } = await fetching;
  if (!examined) {
    const { checkAgainstCpu } = await import("../selfCheck.ts");
    await checkAgainstCpu(async (spec, layout) =>
      engineOf(spec, layout, (await openStepGraphs(null, { spec, layout })).graphFor, PLAIN, warnOverflow),
    );
  }
  const create = (variant: Variant, onOverflow: (count: number) => void): Promise<WgslEngine> =>
    engineOf(spec, layout, graphFor, variant, onOverflow);
  const { variant, refused } = await chooseVariant({ opened, create, spec, layout, batchSize, storage });
  const encoding = await chooseEncoding(opened.device, codec);
  const engine = await engineOf(spec, layout, graphFor, variant, warnOverflow, encoding.createEncoder);
  // One step is what a software adapter can be asked for; elsewhere the least of several says more.
  const timeKernels = async (samples: number): Promise<readonly KindOfKernel[]> => {
    const replay = await engine.replayFor("gradient", samples);
    return byKind(replay.plan.dispatches, await kernelTimes(opened.device, replay, opened.isSoftware ? 1 : 5));
  };
  return {
    ...opened,
    ...(canTimeKernels(opened.device) && { timeKernels }),
    device: describeAdapter(opened.info),
    engine,
    refused: [...refused, ...encoding.refused],
  };
}

function warnOverflow(count: number): void {
  console.warn(`${count} gradient(s) were beyond 16-bit floats and computed again in 32 bits`);
}
