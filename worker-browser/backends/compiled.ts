/** @file The compiled step on WebGPU: the traced step as a few fused shaders, on a device of its own. */
import type { Engine } from "../../shared/engine/engine.ts";
import { stepGraph } from "../../shared/engine/stepGraph.ts";
import { limitsOf, openDevice } from "../../shared/engine/wgsl/device.ts";
import { createWgslEngine } from "../../shared/engine/wgsl/engine.ts";
import { compile } from "../../shared/engine/wgsl/plan.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import type { StartedBackend } from "../engine.ts";
import { checkAgainstCpu } from "../selfCheck.ts";
import { describeAdapter } from "./adapter.ts";

/** Lets it prove itself on a small model first. @throws Error with the reason why it cannot be used. */
export async function startCompiled(
  { spec, layout }: { spec: ModelSpec; layout: ParamLayout },
  onCompiled: (programs: number) => void,
): Promise<StartedBackend & { readonly engine: Engine }> {
  const opened = await openDevice(navigator.gpu);
  let programs = 0;
  const engineOf = (spec: ModelSpec, layout: ParamLayout): Promise<Engine> =>
    createWgslEngine({
      opened,
      spec,
      layout,
      planFor: (kind, batchSize) =>
        compile(stepGraph(kind, spec, layout, batchSize), {
          layout,
          limits: limitsOf(opened.device),
          dropout: spec.dropout,
        }),
      nowMs: () => performance.now(),
      onProgress: () => onCompiled(++programs),
    });
  try {
    await checkAgainstCpu(engineOf);
    return { ...opened, device: describeAdapter(opened.info), engine: await engineOf(spec, layout) };
  } catch (error) {
    opened.device.destroy();
    throw error;
  }
}
