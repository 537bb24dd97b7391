/**
 * @file Chooses the variant of a device: one is taken where this device finds with it what it finds without. Drivers promise features
 * that do not work, and a step that is wrong is worse than one that is slow.
 */
import type { ModelSpec } from "../../model/spec.ts";
import type { ParamLayout } from "../../numerics/layout.ts";
import type { Engine } from "../engine.ts";
import { type Answer, compareAnswers, examine } from "../examination.ts";
import type { OpenDevice } from "./device.ts";
import { PLAIN, type Variant } from "./variant.ts";

export type VariantChoice = {
  readonly variant: Variant;
  /** What the device offers and is not used, and why. */
  readonly refused: readonly string[];
};

/** Relative, of the loss and of every tensor's gradient: another order of sums shows 1e-6, a wrong sum 0.1 and more. */
const TOLERANCE = 1e-4;

/**
 * The examination's step, taken plainly and with what is to be examined. `create` makes an engine for one step; `batchSize` is of a step
 * that will be wanted anyway. A software adapter is not asked, two more steps at the start would cost it more than it could gain:
 * it gets what suits a processor, and is plain WebGPU.
 */
export async function chooseVariant({
  opened: { device, isSoftware },
  create,
  spec,
  layout,
  batchSize,
}: {
  opened: Pick<OpenDevice, "device" | "isSoftware">;
  create: (variant: Variant) => Promise<Engine>;
  spec: ModelSpec;
  layout: ParamLayout;
  batchSize: number;
}): Promise<VariantChoice> {
  if (isSoftware) return { variant: { ...PLAIN, alone: true }, refused: [] };
  if (!device.features.has("subgroups")) return { variant: PLAIN, refused: [] };
  const gradient = new Float32Array(layout.length);
  const answerOf = async (variant: Variant): Promise<Answer> => {
    const engine = await create(variant);
    try {
      return (await examine({ engine, spec, layout, batchSize, gradient, nowMs: () => 0 })).answer;
    } finally {
      await engine.dispose();
    }
  };
  // Where even the plain step fails, for want of memory say, the examination proper will find the words for it.
  const expected = await answerOf(PLAIN).catch(() => null);
  if (expected === null) return { variant: PLAIN, refused: [] };
  const wanted: Variant = { ...PLAIN, subgroups: true };
  const problem = await withoutFault(device, async () => {
    const { loss, worst } = compareAnswers(layout, await answerOf(wanted), expected);
    // Negated, so that NaN is a problem.
    if (loss <= TOLERANCE && worst.error <= TOLERANCE) return null;
    return `the loss is off by ${loss.toExponential(1)}, the gradient of ${worst.name || "no tensor"} by ${worst.error.toExponential(1)} (relative)`;
  });
  if (problem === null) return { variant: wanted, refused: [] };
  return { variant: PLAIN, refused: [`its subgroups: ${problem}`] };
}

/** What `work` finds, or the error that it or the device had: one that nobody asked for would end the device's use. */
async function withoutFault(device: GPUDevice, work: () => Promise<string | null>): Promise<string | null> {
  const kinds = ["validation", "out-of-memory", "internal"] as const;
  for (const kind of kinds) device.pushErrorScope(kind);
  let problem = await work().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  for (const _ of kinds) problem = (await device.popErrorScope())?.message ?? problem;
  return problem?.replaceAll(/\s+/g, " ").slice(0, 200) ?? null;
}
