/** @file A model's spec out of a file's metadata: JSON that somebody else may have written. */

import * as z from "zod";
import type { ModelSpec } from "./spec.ts";

const size = z.int().min(1).max(1_000_000);

const schema = z.strictObject({
  kind: z.literal("gpt"),
  layers: size,
  heads: size,
  width: size,
  context: size,
  vocabulary: size,
  bias: z.boolean(),
  dropout: z.number().min(0).lt(1),
});

/** @throws Error naming the field that is wrong. */
export function parseModelSpec(json: string | undefined): ModelSpec {
  if (json === undefined) throw new Error("the file does not say which model it holds");
  const parsed = schema.safeParse(JSON.parse(json));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`model spec: ${issue?.path.join(".") || "the JSON"}: ${issue?.message}`);
  }
  if (parsed.data.width % parsed.data.heads !== 0)
    throw new Error(`model spec: width ${parsed.data.width} is not a multiple of ${parsed.data.heads} heads`);
  return parsed.data;
}
