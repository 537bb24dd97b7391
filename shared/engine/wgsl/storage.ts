/**
 * @file Third pass: which values share memory. A result overwrites an operand that nobody needs afterwards, where the kernel reads
 * each element before it, and only it, writes there: GELU's gradient over GELU's input, logits' gradient over logits.
 */
import { sizeOf } from "../../numerics/layout.ts";
import type { ValueId } from "../graph.ts";
import { type FusedGraph, type FusedOp, readsOf, writesOf } from "./fused.ts";

export type Storages = {
  /** The value that stands for all that use the same memory. */
  readonly storageOf: (id: ValueId) => ValueId;
};

/**
 * What may be stored as f16: the results of layers and their gradients. Sums of many stay f32: statistics, ln Σ exp, losses, what
 * gradients of parameters are added up from; and what somebody reads from outside.
 */
export function halfValues(graph: FusedGraph, isFixed: (id: ValueId) => boolean): ReadonlySet<ValueId> {
  const outside = new Set(Object.values(graph.outputs));
  const halves = new Set<ValueId>();
  for (const { core, stores } of graph.ops) {
    if (core.kind === "columnSum" || core.kind === "embeddingGrad") continue;
    const layer = core.kind === "crossEntropy" ? core.chunks.flatMap(({ dLogits }) => dLogits ?? []) : stores;
    for (const id of layer) if (!isFixed(id) && !outside.has(id)) halves.add(id);
  }
  return halves;
}

/** `isFixed`: values with a place of their own in an arena; `halves`: those stored as f16. */
export function shareStorage(
  graph: FusedGraph,
  isFixed: (id: ValueId) => boolean,
  halves: ReadonlySet<ValueId> = new Set(),
): Storages {
  const lastUse = new Map<ValueId, number>();
  for (const [i, op] of graph.ops.entries()) {
    for (const id of [...readsOf(op, graph.constants), ...writesOf(op)]) lastUse.set(id, i);
  }
  for (const id of Object.values(graph.outputs)) lastUse.set(id, Infinity);
  const representative = new Map<ValueId, ValueId>();
  const storageOf = (id: ValueId): ValueId => {
    const next = representative.get(id);
    return next === undefined ? id : storageOf(next);
  };
  for (const [i, op] of graph.ops.entries()) {
    const taken = new Set<ValueId>();
    for (const [from, to] of overwritable(op, graph)) {
      const [old, young] = [storageOf(from), storageOf(to)];
      if (isFixed(old) || taken.has(old) || taken.has(to) || old === young || (lastUse.get(old) ?? 0) > i) continue;
      // What moves to a fixed place becomes f32 as a whole.
      if (!isFixed(young) && halves.has(old) !== halves.has(young)) continue;
      taken.add(old).add(to);
      representative.set(old, young);
      lastUse.set(young, Math.max(lastUse.get(young) ?? 0, lastUse.get(to) ?? 0));
    }
  }
  return { storageOf };
}

/** Pairs (operand, result) for which the op may write where it reads. */
function overwritable({ core, steps, stores }: FusedOp, { values }: FusedGraph): [ValueId, ValueId][] {
  const size = (id: ValueId) => sizeOf(values[id]?.shape ?? []);
  const sameSize = (from: readonly ValueId[]) =>
    stores.flatMap((to) => from.filter((id) => size(id) === size(to)).map((id): [ValueId, ValueId] => [id, to]));
  const elementwise = steps.filter(({ op }) => op !== "ManyhandsEmbedding").flatMap(({ inputs }) => inputs);
  const made = new Set<ValueId>([...stores, ...steps.map(({ output }) => output)]);
  if (core.result !== null) made.add(core.result);
  const operands = elementwise.filter((id) => !made.has(id) && values[id]?.dtype === "float32");
  switch (core.kind) {
    case "elementwise": {
      const tables = steps.filter(({ op }) => op === "ManyhandsEmbedding").flatMap(({ inputs }) => inputs);
      return sameSize(operands.filter((id) => !tables.includes(id)));
    }
    case "matMul":
      // A tile reads its factors while others already write.
      return sameSize(operands.filter((id) => id !== core.a && id !== core.b));
    case "layerNorm":
      return sameSize([...operands, core.x].filter((id) => id !== core.gain));
    case "layerNormGrad":
      return sameSize([...operands, core.dy, core.x].filter((id) => id !== core.gain));
    case "crossEntropy":
      return core.chunks.flatMap(({ logits, dLogits }): [ValueId, ValueId][] => dLogits === null ? [] : [[logits, dLogits]]); // prettier-ignore
    case "embeddingGrad":
      return core.addend === null ? [] : [[core.addend, core.result]];
    case "attention":
    case "attentionGrad":
    case "columnSum":
      return [];
    default:
      return core satisfies never;
  }
}
