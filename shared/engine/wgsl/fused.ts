/** @file What fusion makes of the graph, and what the later passes read: few ops, each a kernel or two with work attached. */
import type { Attributes, TensorSpec } from "../../model/ops/op.ts";
import type { ValueId } from "../graph.ts";

/** One elementwise op on the way of a value through a kernel's registers. */
export type Step = {
  readonly op: StepOp;
  readonly inputs: readonly ValueId[];
  readonly output: ValueId;
  readonly attributes: Attributes;
};

export type StepOp =
  "Add" | "Multiply" | "ManyhandsGelu" | "ManyhandsGeluGrad" | "ManyhandsDropout" | "ManyhandsEmbedding";

/** What a kernel computes before the steps; `result` is the value they start from. */
export type Core =
  | { readonly kind: "elementwise"; readonly result: null; readonly shape: readonly number[] }
  | {
      readonly kind: "matMul";
      readonly result: ValueId;
      readonly a: ValueId;
      readonly b: ValueId;
      readonly transposeA: boolean;
      readonly transposeB: boolean;
    }
  | {
      readonly kind: "layerNorm";
      readonly result: ValueId;
      readonly x: ValueId;
      readonly gain: ValueId;
      /** [rows, 2]: mean and 1/σ of every row, where the gradient needs them. */
      readonly statistics: ValueId | null;
    }
  | {
      readonly kind: "layerNormGrad";
      readonly result: ValueId;
      readonly dy: ValueId;
      readonly x: ValueId;
      readonly gain: ValueId;
      readonly statistics: ValueId;
      readonly dGain: ValueId;
      /** Σ_rows dy, when the norm has a bias. */
      readonly dBias: ValueId | null;
      /** [groups of rows, d or 2d]: sums over some rows. */
      readonly partial: ValueId;
    }
  | {
      readonly kind: "attention";
      readonly result: ValueId;
      readonly qkv: ValueId;
      readonly keys: ValueId | null;
      /** [B, H, T]: ln Σ exp(score), where the gradient needs it. */
      readonly logSumExp: ValueId | null;
      readonly attributes: Attributes;
    }
  | {
      readonly kind: "attentionGrad";
      readonly result: ValueId;
      readonly dy: ValueId;
      readonly qkv: ValueId;
      readonly out: ValueId;
      readonly logSumExp: ValueId;
      /** [B, H, T]: dy·out of every query and head. */
      readonly along: ValueId;
      readonly keys: ValueId | null;
      readonly attributes: Attributes;
    }
  | {
      /** Loss of each row and, in the same kernel, the gradient of the logits. Several chunks: vocabulary cut into ranges. */
      readonly kind: "crossEntropy";
      /** [N]: the loss of each row. */
      readonly result: ValueId;
      readonly targets: ValueId;
      readonly chunks: readonly LogitsChunk[];
      /** [N, 3]: maximum, Σ exp, chosen logit so far; only with several chunks. */
      readonly state: ValueId | null;
      /** Factor of the gradient. */
      readonly scale: number;
    }
  | {
      /** Σ over rows; the steps of `prologue` make each element first. */
      readonly kind: "columnSum";
      readonly result: ValueId;
      readonly input: ValueId;
      readonly prologue: readonly Step[];
      readonly rows: number;
      readonly columns: number;
    }
  | {
      /** table[first + r] = addend[r] + Σ over tokens with that id of dy. */
      readonly kind: "embeddingGrad";
      readonly result: ValueId;
      readonly dy: ValueId;
      readonly segments: ValueId;
      readonly addend: ValueId | null;
      readonly first: number;
      readonly rows: number;
    };

export type LogitsChunk = { readonly logits: ValueId; readonly dLogits: ValueId | null; readonly first: number };

export type FusedOp = {
  readonly core: Core;
  readonly steps: readonly Step[];
  /** Of the core's result and the steps' outputs, those that are written to memory. */
  readonly stores: readonly ValueId[];
};

export type FusedGraph = {
  /** The graph's values and those that only kernels share. */
  readonly values: readonly TensorSpec[];
  readonly constants: ReadonlyMap<ValueId, number>;
  readonly ops: readonly FusedOp[];
  readonly inputs: Readonly<Record<string, ValueId>>;
  readonly outputs: Readonly<Record<string, ValueId>>;
};

export function isStep(op: string): op is StepOp {
  return (STEP_OPS as readonly string[]).includes(op);
}

const STEP_OPS: readonly StepOp[] = [
  "Add",
  "Multiply",
  "ManyhandsGelu",
  "ManyhandsGeluGrad",
  "ManyhandsDropout",
  "ManyhandsEmbedding",
];

/** Everything the op reads from memory, each value once. */
export function readsOf({ core, steps }: FusedOp, constants: ReadonlyMap<ValueId, number>): ValueId[] {
  const own = new Set<ValueId>(steps.map(({ output }) => output));
  if (core.result !== null) own.add(core.result);
  const prologue = core.kind === "columnSum" ? core.prologue : [];
  for (const { output } of prologue) own.add(output);
  const read = [...coreReads(core), ...[...prologue, ...steps].flatMap(({ inputs }) => inputs)];
  return [...new Set(read)].filter((id) => !own.has(id) && !constants.has(id));
}

/** Everything the op writes to memory, values that its own kernels hand to each other included. */
export function writesOf({ core, stores }: FusedOp): ValueId[] {
  const extra = coreWrites(core);
  return [...new Set([...stores, ...extra])];
}

function coreReads(core: Core): ValueId[] {
  switch (core.kind) {
    case "elementwise":
      return [];
    case "matMul":
      return [core.a, core.b];
    case "layerNorm":
      return [core.x, core.gain];
    case "layerNormGrad":
      return [core.dy, core.x, core.gain, core.statistics];
    case "attention":
      return given(core.qkv, core.keys);
    case "attentionGrad":
      return given(core.dy, core.qkv, core.out, core.logSumExp, core.keys);
    case "crossEntropy":
      return [...core.chunks.map(({ logits }) => logits), core.targets];
    case "columnSum":
      return [core.input];
    case "embeddingGrad":
      return given(core.dy, core.segments, core.addend);
    default:
      return core satisfies never;
  }
}

function coreWrites(core: Core): ValueId[] {
  switch (core.kind) {
    case "layerNorm":
      return given(core.statistics);
    case "layerNormGrad":
      return given(core.dGain, core.dBias, core.partial);
    case "attention":
      return given(core.logSumExp);
    case "attentionGrad":
      return [core.along];
    case "crossEntropy":
      return given(core.state, ...core.chunks.map(({ dLogits }) => dLogits));
    case "elementwise":
    case "matMul":
    case "columnSum":
    case "embeddingGrad":
      return [];
    default:
      return core satisfies never;
  }
}

function given(...ids: readonly (ValueId | null)[]): ValueId[] {
  return ids.filter((id) => id !== null);
}
