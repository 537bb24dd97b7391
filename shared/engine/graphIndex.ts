/** @file Which traced steps a coordinator serves, and where: `/graphs/index.json`. */
import * as z from "zod/mini";
import type { StepKind } from "./stepKind.ts";

/** Where the index is served, and beside it each graph under its own name. */
export const GRAPHS_PATH = "/graphs/";
export const GRAPH_INDEX_FILE = "index.json";

export type GraphIndex = {
  /** Whether the run examines engines itself before it lends them work. */
  readonly examined: boolean;
  readonly graphs: readonly ServedGraph[];
};

export type ServedGraph = {
  readonly kind: StepKind;
  readonly batchSize: number;
  /** Of the text, lower-case hex; the file is `<sha256>.json`. */
  readonly sha256: string;
};

const schema = z.strictObject({
  examined: z.boolean(),
  graphs: z
    .array(
      z.strictObject({
        kind: z.enum(["gradient", "loss", "logits"]),
        batchSize: z.int().check(z.positive()),
        sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
      }),
    )
    .check(z.maxLength(100)),
});

/** @throws Error naming the first field that is wrong. */
export function parseGraphIndex(json: unknown): GraphIndex {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`index of step graphs: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
}
