/** @file A batch as a plan takes it: every input at its place in the words that one upload sends. */
import type { ModelSpec } from "../../model/spec.ts";
import { streamKey } from "../../numerics/rng.ts";
import type { Batch } from "../engine.ts";
import { KEYS, SEGMENTS } from "./names.ts";
import type { Place, Plan } from "./plan.ts";
import { writeSegments } from "./segments.ts";

const SEGMENTS_OF_INPUTS: string = `${SEGMENTS}inputs`;

/**
 * Tokens, their segments, and the keys of the masks at `sites`. Mutates staging.
 *
 * @throws Error when the plan is for another batch size, or the batch names no masks for a model that has dropout.
 */
export function writeInputs(
  staging: Int32Array,
  { inputs: places }: Plan,
  { vocabulary }: ModelSpec,
  sites: readonly string[],
  batch: Batch,
): void {
  writeTokens(staging, places["inputs"], batch.inputs);
  writeTokens(staging, places["targets"], batch.targets);
  const segments = places[SEGMENTS_OF_INPUTS];
  if (segments) writeSegments(staging, segments.offset / 4, batch.inputs, vocabulary);
  if (sites.length === 0) return;
  if (!batch.dropout) throw new Error("the model has dropout, but the batch names no masks");
  const { seed, step, samples } = batch.dropout;
  if (samples.length !== batch.batchSize) {
    throw new RangeError(`${samples.length} dropout samples for a batch of ${batch.batchSize}`);
  }
  for (const [site, name] of sites.entries()) {
    const place = places[KEYS + name];
    if (!place) throw new Error(`the plan has no keys for dropout at "${name}"`);
    for (const [b, sample] of samples.entries()) staging[place.offset / 4 + b] = streamKey(seed, step, sample, site);
  }
}

/** Mutates staging. @throws Error when that is not how many tokens the plan takes. */
export function writeTokens(staging: Int32Array, place: Place | undefined, tokens: Int32Array): void {
  if (!place || place.bytes !== 4 * tokens.length) throw new Error(`the plan has no place for ${tokens.length} tokens`);
  staging.set(tokens, place.offset / 4);
}
