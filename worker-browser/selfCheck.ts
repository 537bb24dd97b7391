/**
 * @file The entrance examination of a backend: one loss and gradient of a small model, against the cpu backend. Drivers
 * have bugs; a worker that computes garbage is worse than one that is slow.
 */
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Batch, Engine } from "../shared/engine/engine.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { initialParams } from "../shared/model/init.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import { layoutOf, type ParamLayout } from "../shared/numerics/layout.ts";
import { start as startCpu } from "./backends/cpu.ts";
import type { TfjsBackend } from "./messages.ts";

/** Every op of the real model; extents that differ, so that swapped axes show. */
const spec: ModelSpec = {
  kind: "gpt",
  layers: 1,
  heads: 2,
  width: 12,
  context: 7,
  vocabulary: 19,
  bias: true,
  dropout: 0,
};

const BATCH_SIZE = 3;

/**
 * Relative L2. WGSL allows tanh an absolute error of 1e-5; 16-bit floats show 1e-3 and more, a wrong kernel 0.1 and more.
 * The exact agreement of our backends is measured by tests; this catches machines we never saw.
 */
const TOLERANCE = 5e-4;

/** Leaves no tensors behind. @throws Error when loss or gradient differ from the cpu backend's. */
export function selfCheck(backend: TfjsBackend): Promise<void> {
  return checkAgainstCpu((spec, layout) => createEagerEngine({ spec, layout, backend }));
}

/** As {@link selfCheck}, for any engine. */
export async function checkAgainstCpu(
  create: (spec: ModelSpec, layout: ParamLayout) => Promise<Engine>,
): Promise<void> {
  await startCpu();
  const expected = await examine((spec, layout) => createEagerEngine({ spec, layout, backend: "cpu" }));
  const found = await examine(create);
  const lossError = Math.abs(found.lossSum - expected.lossSum) / expected.lossSum;
  const gradientError = relativeL2(found.gradient, expected.gradient);
  // Negated, so that NaN fails.
  if (!(lossError <= TOLERANCE && gradientError <= TOLERANCE)) {
    throw new Error(
      `it computes wrong numbers here: loss off by ${scientific(lossError)}, gradient by ${scientific(gradientError)} (relative)`,
    );
  }
}

async function examine(
  create: (spec: ModelSpec, layout: ParamLayout) => Promise<Engine>,
): Promise<{ lossSum: number; gradient: Float32Array }> {
  const layout = layoutOf(gptTensors(spec));
  // Five times the usual deviation: attention of a fresh model is nearly uniform, and would hide a wrong softmax.
  const params = initialParams(spec, layout, 1).map((value) => 5 * value);
  const gradient = new Float32Array(layout.length);
  const engine = await create(spec, layout);
  try {
    await engine.load(params);
    const { lossSum } = await engine.gradient(batch(), gradient);
    return { lossSum, gradient };
  } finally {
    await engine.dispose();
  }
}

/** Repeated tokens (their embedding's gradients must add up) and one position that does not count. */
function batch(): Batch {
  const inputs = Int32Array.from({ length: BATCH_SIZE * spec.context }, (_, i) => (i * i + 3 * i) % spec.vocabulary);
  const targets = inputs.map((_, i) => (5 * i + 2) % spec.vocabulary);
  targets[4] = -1;
  return { batchSize: BATCH_SIZE, inputs, targets };
}

/** ‖found − expected‖ / ‖expected‖. */
export function relativeL2(found: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (const [i, value] of expected.entries()) {
    difference += ((found[i] ?? 0) - value) ** 2;
    norm += value ** 2;
  }
  return Math.sqrt(difference / norm);
}

function scientific(value: number): string {
  return value.toExponential(1);
}
