/** @file What every engine checks and derives from a batch before it computes. */
import { type DropoutKey, dropoutMasks } from "../model/dropoutMask.ts";
import { gptDropoutSites } from "../model/gptTensors.ts";
import type { ModelSpec } from "../model/spec.ts";
import type { TensorShape } from "../numerics/layout.ts";
import type { Batch } from "./engine.ts";

/** @throws RangeError when an array's length is not B·T, or an input token is outside the vocabulary. */
export function checkInputs({ context, vocabulary }: ModelSpec, inputs: Int32Array, batchSize: number): void {
  if (inputs.length !== batchSize * context) {
    throw new RangeError(
      `inputs have ${inputs.length} tokens, a batch of ${batchSize}×${context} needs ${batchSize * context}`,
    );
  }
  for (let i = 0; i < inputs.length; i++) {
    const token = inputs[i]!;
    if (token < 0 || token >= vocabulary) throw new RangeError(`input token ${token} is not in 0…${vocabulary - 1}`);
  }
}

/** As {@link checkInputs}, targets too (−1 is allowed there). Returns the number of counted targets. */
export function checkBatch(spec: ModelSpec, { inputs, targets, batchSize }: Batch): number {
  checkInputs(spec, inputs, batchSize);
  if (targets.length !== inputs.length) {
    throw new RangeError(`${targets.length} targets for ${inputs.length} inputs`);
  }
  let tokens = 0;
  for (let i = 0; i < targets.length; i++) {
    const token = targets[i]!;
    if (token < -1 || token >= spec.vocabulary) {
      throw new RangeError(`target ${token} is neither −1 nor in 0…${spec.vocabulary - 1}`);
    }
    if (token >= 0) tokens++;
  }
  return tokens;
}

/** Where the model drops values, in the order that numbers the sites; none without dropout. */
export function dropoutSites(spec: ModelSpec): TensorShape[] {
  return spec.dropout === 0 ? [] : gptDropoutSites(spec);
}

/** The dropout sites with their masks' shapes for a whole batch: rows [B·T, d] or attention [B, H, T, T]; none without dropout. */
export function maskShapes(spec: ModelSpec, batchSize: number): TensorShape[] {
  return dropoutSites(spec).map(({ name, shape: [first = 0, ...rest] }) => ({
    name,
    shape: rest.length === 1 ? [batchSize * first, ...rest] : [batchSize, first, ...rest],
  }));
}

/** The batch's masks by site. @throws Error when the spec has dropout and the batch does not say which masks. */
export function masksFor(spec: ModelSpec, batch: Batch): ReadonlyMap<string, Float32Array> {
  if (spec.dropout === 0) return new Map();
  const key: DropoutKey | undefined = batch.dropout;
  if (!key) throw new Error(`the model has dropout ${spec.dropout}, but the batch names no masks`);
  if (key.samples.length !== batch.batchSize) {
    throw new RangeError(`${key.samples.length} dropout samples for a batch of ${batch.batchSize}`);
  }
  return dropoutMasks(gptDropoutSites(spec), spec.dropout, key);
}
