/** @file Logits by the compiled step, attention by tfjs: on one device, over one θ, which is uploaded once. */
import { createEagerEngine, type EagerEngine } from "../../shared/engine/eager.ts";
import { stepGraph } from "../../shared/engine/stepGraph.ts";
import { limitsOf } from "../../shared/engine/wgsl/device.ts";
import { createWgslEngine } from "../../shared/engine/wgsl/engine.ts";
import { compile } from "../../shared/engine/wgsl/plan.ts";
import { PLAIN } from "../../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { sharedDevice } from "../backends/device.ts";
import { residentParams } from "../backends/webgpu.ts";
import { relativeL2 } from "../selfCheck.ts";

/** Relative L2: another order of sums shows 1e-6, a wrong kernel 0.1 and more. */
const TOLERANCE = 1e-4;

/**
 * With θ loaded. tfjs must have been started on this thread's device; what it finds with this very model, over the same bytes, the
 * compiled step must find. Gradients are not for this engine. @throws Error with the reason why tfjs has to go on alone.
 */
export async function startCompiledWriter({
  spec,
  layout,
  params,
}: {
  spec: ModelSpec;
  layout: ParamLayout;
  params: Float32Array;
}): Promise<EagerEngine> {
  const opened = await sharedDevice();
  const variant = { ...PLAIN, alone: opened.isSoftware };
  const options = { layout, limits: limitsOf(opened.device), dropout: spec.dropout, variant };
  const compiled = await createWgslEngine({
    opened,
    spec,
    layout,
    planFor: (kind, batchSize) => compile(stepGraph(kind, spec, layout, batchSize), options),
    nowMs: () => performance.now(),
    logitsOnly: true,
  });
  const resident = residentParams(layout, compiled);
  const eager = await createEagerEngine({ spec, layout, backend: "webgpu", resident });
  const dispose = async (): Promise<void> => {
    await eager.dispose();
    await compiled.dispose();
  };
  const writer: EagerEngine = {
    ...eager,
    load: (theta) => compiled.load(theta),
    logits: (inputs, batchSize) => compiled.logits(inputs, batchSize),
    logitsAt: (inputs, position) => compiled.logitsAt(inputs, position),
    dispose,
  };
  try {
    await writer.load(params);
    await compare(spec, compiled, eager);
    const fault = opened.fault();
    if (fault !== null) throw new Error(fault);
    return writer;
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** At two positions: all of them are a hundred megabytes where the vocabulary is large. @throws Error when they differ. */
async function compare(spec: ModelSpec, ...[compiled, eager]: readonly [Logits, Logits]): Promise<void> {
  const { context, vocabulary } = spec;
  const inputs = Int32Array.from({ length: context }, (_, i) => (7 * i * i + 3 * i) % vocabulary);
  for (const position of [context >> 1, context - 1]) {
    const [found, expected] = [await compiled.logitsAt(inputs, position), await eager.logitsAt(inputs, position)];
    const error = relativeL2(found, expected);
    // Negated, so that NaN fails.
    if (!(error <= TOLERANCE)) throw new Error(`its logits are off by ${error.toExponential(1)} (relative)`);
  }
}

type Logits = Required<Pick<EagerEngine, "logitsAt">>;
