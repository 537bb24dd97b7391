/**
 * @file Who may compute: a worker's answer to the examination (shared/engine/examination.ts) against the expected one. It finds
 * machines that compute wrong numbers, broken drivers above all; who wants to cheat can compute the right answer first.
 */
import { type Answer, compareAnswers } from "../../shared/engine/examination.ts";
import type { Backend } from "../../shared/engine/engine.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";

/**
 * Largest difference from the expected answer, relative, of the loss and of every tensor's gradient.
 *
 * Processors: our engines agree to 1e-5 (relative L2 of a whole gradient; docs/assumptions.md); tenfold for what a single tensor
 * may differ. GPUs: WGSL allows tanh an absolute error of 1e-5, and fast division; 16-bit floats, which the f32 model does not
 * ask for, show 1e-3 and more, a wrong kernel 0.1 and more.
 */
export const tolerances: Readonly<Record<Backend, number>> = {
  onnx: 1e-4,
  wasm: 1e-4,
  cpu: 1e-4,
  webgl: 5e-4,
  webgpu: 5e-4,
};

export type Verdict = { readonly admitted: true } | { readonly admitted: false; readonly reason: string };

/** In a run whose operator allows f16: measured up to 3e-3 for the worst tensor (docs/engine.md). */
const HALF_TOLERANCE = 2e-2;

export function judge(
  { layout, activations }: { layout: ParamLayout; activations: "f32" | "f16" },
  backend: Backend,
  found: Answer,
  expected: Answer,
): Verdict {
  // prettier-ignore
  const tolerance = backend === "webgpu" && activations === "f16" ? HALF_TOLERANCE : tolerances[backend];
  if (found.tokens !== expected.tokens) return refuse(`${found.tokens} tokens counted instead of ${expected.tokens}`);
  if (found.sketch.length !== expected.sketch.length) {
    return refuse(`an answer for ${found.sketch.length} numbers instead of ${expected.sketch.length}`);
  }
  const { loss, worst } = compareAnswers(layout, found, expected);
  if (loss <= tolerance && worst.error <= tolerance) return { admitted: true };
  return refuse(
    `on a known batch the loss is off by ${scientific(loss)} and the gradient of ${worst.name || "no tensor"} by ` +
      `${scientific(worst.error)} (relative), ${backend} may differ by ${scientific(tolerance)}`,
  );
}

function refuse(reason: string): Verdict {
  return { admitted: false, reason };
}

function scientific(value: number): string {
  return value.toExponential(1);
}
