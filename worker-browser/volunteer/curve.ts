/** @file The run's losses by step: the past from the coordinator, thinned there, and what is new as it is heard. */
import * as z from "zod/mini";

export type Curve = {
  /** Steps, ascending, and the mean training loss at each, nats per token. */
  readonly version: readonly number[];
  readonly loss: readonly number[];
  readonly evaluations: { readonly version: readonly number[]; readonly loss: readonly number[] };
};

const numbers = z.array(z.number());
const schema = z.object({
  version: numbers,
  loss: numbers,
  evaluations: z.object({ version: numbers, loss: numbers }),
});

/** As many as a wide screen shows. */
const POINTS = 300;

/** Points heard one by one; beyond them the past is asked for again, thinned. */
export const MAX_POINTS = 900;

export const emptyCurve: Curve = { version: [], loss: [], evaluations: { version: [], loss: [] } };

/** Null when the coordinator does not answer. */
export async function readCurve(): Promise<Curve | null> {
  try {
    const response = await fetch(`dashboard/curves?points=${POINTS}`, { signal: AbortSignal.timeout(10_000) });
    return response.ok ? z.parse(schema, await response.json()) : null;
  } catch {
    return null;
  }
}

/** The curve with what was heard of a later step; the same curve when there is nothing new in it. */
export function extendCurve(
  curve: Curve,
  heard: { readonly version: number; readonly trainLoss: number | null; readonly validationLoss: number | null },
): Curve {
  const { version, trainLoss, validationLoss } = heard;
  const last = curve.version.at(-1) ?? 0;
  if (trainLoss === null || version <= last) return curve;
  const { evaluations } = curve;
  // The value stays until the next evaluation: only a change is one.
  const isNew = validationLoss !== null && validationLoss !== evaluations.loss.at(-1);
  return {
    version: [...curve.version, version],
    loss: [...curve.loss, trainLoss],
    evaluations: isNew
      ? { version: [...evaluations.version, version], loss: [...evaluations.loss, validationLoss] }
      : evaluations,
  };
}
