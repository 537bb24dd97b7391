/**
 * @file Second pass: graph nodes become the few ops that kernels are written for. Elementwise nodes ride on the kernel that makes
 * their latest input (bias, GELU, residual, dropout and their gradients on products and norms); loss and its gradient,
 * attention and what its gradient needs again, a norm's gain and bias gradients become one op each.
 */
import type { TensorSpec } from "../../model/ops/op.ts";
import { sizeOf } from "../../numerics/layout.ts";
import { type Graph, type GraphNode, useCounts, type ValueId } from "../graph.ts";
import {
  type Core,
  type FusedGraph,
  type FusedOp,
  isStep,
  type LogitsChunk,
  readsOf,
  type Step,
  writesOf,
} from "./fused.ts";
import { SEGMENTS } from "./names.ts";

export type FuseOptions = {
  /** WebGPU allows a kernel 8 storage bindings unless the adapter offers more. */
  readonly maxBindings: number;
};

/** @throws Error for an op that has no kernel. */
export function fuse(graph: Graph, { maxBindings }: FuseOptions): FusedGraph {
  const fusion = new Fusion(graph, maxBindings);
  for (const node of graph.nodes) fusion.add(node);
  return fusion.finish();
}

type Draft = { core: Core; steps: Step[]; made: Set<ValueId> };

class Fusion {
  readonly #graph: Graph;
  readonly #maxBindings: number;
  readonly #values: TensorSpec[];
  readonly #inputs: Record<string, ValueId>;
  readonly #uses: ReadonlyMap<ValueId, number>;
  /** In the order of execution; null where an op became part of another. */
  readonly #drafts: (Draft | null)[] = [];
  /** Index of the draft that makes a value. */
  readonly #maker = new Map<ValueId, number>();
  readonly #statistics = new Map<ValueId, ValueId>();
  readonly #attention = new Map<ValueId, { out: ValueId; logSumExp: ValueId }>();
  /** Gradients of logits that the op of the loss computes. */
  readonly #done = new Set<ValueId>();
  readonly #segments = new Map<ValueId, ValueId>();

  constructor(graph: Graph, maxBindings: number) {
    this.#graph = graph;
    this.#maxBindings = maxBindings;
    this.#values = [...graph.values];
    this.#inputs = { ...graph.inputs };
    this.#uses = useCounts(graph);
  }

  add(node: GraphNode): void {
    const [output = -1] = node.outputs;
    if (this.#done.has(output)) return;
    if (isStep(node.op)) this.#addStep({ op: node.op, inputs: node.inputs, output, attributes: node.attributes });
    else this.#addCore(this.#core(node), node.outputs);
  }

  finish(): FusedGraph {
    const { constants, outputs } = this.#graph;
    const drafts = this.#drafts.filter((draft) => draft !== null);
    // What nobody else reads stays in registers.
    const read = new Set<ValueId>(Object.values(outputs));
    const inside = new Map<Draft, ReadonlySet<ValueId>>();
    for (const draft of drafts) {
      inside.set(draft, draft.made);
      for (const id of readsOf({ ...draft, stores: [] }, constants)) read.add(id);
    }
    const ops = drafts.map(({ core, steps, made }): FusedOp => {
      const extra = new Set(writesOf({ core, steps: [], stores: [] }));
      const stores = [...made].filter((id) => read.has(id) && !extra.has(id));
      return { core, steps, stores: core.kind === "crossEntropy" ? [core.result] : stores };
    });
    return { values: this.#values, constants, ops, inputs: this.#inputs, outputs };
  }

  #scratch(shape: readonly number[]): ValueId {
    return this.#values.push({ shape, dtype: "float32" }) - 1;
  }

  #shape(id: ValueId): readonly number[] {
    const spec = this.#values[id];
    if (!spec) throw new Error(`the graph has no value ${id}`);
    return spec.shape;
  }

  #addCore(core: Core, made: readonly ValueId[]): void {
    const index = this.#drafts.push({ core, steps: [], made: new Set(core.result === null ? [] : [core.result]) }) - 1;
    for (const id of [...made, ...(core.result === null ? [] : [core.result])]) this.#maker.set(id, index);
    for (const id of writesOf({ core, steps: [], stores: [] })) this.#maker.set(id, index);
  }

  /** On the draft that makes the latest of its inputs, if that can take it; otherwise a kernel of its own. */
  #addStep(step: Step): void {
    if (this.#addToEmbeddingGrad(step)) return;
    const size = sizeOf(this.#shape(step.output));
    const latest = Math.max(...step.inputs.map((id) => this.#maker.get(id) ?? -1));
    const draft = this.#drafts[latest];
    const hosts = draft && (draft.core.kind === "elementwise" || HOSTS.has(draft.core.kind));
    if (draft && hosts) {
      const chained = step.inputs.some((id) => draft.made.has(id) && sizeOf(this.#shape(id)) === size);
      // Other outputs of the kernel, such as a gain's gradient, are complete only when it has ended.
      const complete = step.inputs.every((id) => this.#maker.get(id) !== latest || draft.made.has(id));
      const joined = { core: draft.core, steps: [...draft.steps, step], made: new Set([...draft.made, step.output]) };
      if (chained && complete && this.#bindings(joined) <= this.#maxBindings) {
        this.#drafts[latest] = joined;
        this.#maker.set(step.output, latest);
        return;
      }
    }
    const core: Core = { kind: "elementwise", result: null, shape: this.#shape(step.output) };
    this.#maker.set(step.output, this.#drafts.push({ core, steps: [step], made: new Set([step.output]) }) - 1);
  }

  /** An upper bound: every value made could have to be stored. Those used once, by the next step, do not. */
  #bindings({ core, steps, made }: Draft): number {
    const { constants, outputs } = this.#graph;
    const ends = new Set(Object.values(outputs));
    const usedInside = new Map<ValueId, number>();
    for (const id of steps.flatMap(({ inputs }) => inputs)) usedInside.set(id, (usedInside.get(id) ?? 0) + 1);
    const stores = [...made].filter((id) => ends.has(id) || (this.#uses.get(id) ?? 0) > (usedInside.get(id) ?? 0));
    const op: FusedOp = { core, steps, stores };
    const writes = writesOf(op).filter(
      (id) => core.kind !== "layerNormGrad" || (id !== core.dGain && id !== core.dBias),
    );
    return new Set([...readsOf(op, constants), ...writes]).size;
  }

  /** The sum of an embedding's gradient and of what else the table gets: added in place. */
  #addToEmbeddingGrad({ op, inputs, output }: Step): boolean {
    if (op !== "Add") return false;
    for (const [i, id] of inputs.entries()) {
      const index = this.#maker.get(id) ?? -1;
      const draft = this.#drafts[index];
      const other = inputs[1 - i] ?? -1;
      if (draft?.core.kind !== "embeddingGrad" || draft.core.addend !== null) continue;
      if (draft.core.result !== id || this.#uses.get(id) !== 1 || (this.#maker.get(other) ?? -1) >= index) continue;
      if (sizeOf(this.#shape(other)) !== sizeOf(this.#shape(output))) continue;
      const core: Core = { ...draft.core, addend: other, result: output };
      this.#drafts[index] = { core, steps: [], made: new Set([output]) };
      this.#maker.set(output, index);
      return true;
    }
    return false;
  }

  #core({ op, inputs, outputs, attributes }: GraphNode): Core {
    const [result = -1, second = -1] = outputs;
    const [a = -1, b = -1, c = -1] = inputs;
    switch (op) {
      case "BatchMatMul": {
        const { transposeA, transposeB } = attributes;
        return { kind: "matMul", result, a, b, transposeA: transposeA === true, transposeB: transposeB === true };
      }
      case "ManyhandsLayerNorm": {
        const differentiated = this.#graph.nodes.some((n) => n.op === "ManyhandsLayerNormGrad" && n.inputs[1] === a);
        const rows = sizeOf(this.#shape(a)) / (this.#shape(b)[0] ?? 1);
        const statistics = differentiated ? (this.#statistics.get(a) ?? this.#scratch([rows, 2])) : null;
        if (statistics !== null) this.#statistics.set(a, statistics);
        return { kind: "layerNorm", result, x: a, gain: b, statistics };
      }
      case "ManyhandsLayerNormGrad":
        return this.#layerNormGrad({ result, dGain: second, dy: a, x: b, gain: c });
      case "ManyhandsAttention": {
        const differentiated = this.#graph.nodes.some((n) => n.op === "ManyhandsAttentionGrad" && n.inputs[1] === a);
        const logSumExp = differentiated ? this.#scratch(queriesOf(attributes)) : null;
        if (logSumExp !== null) this.#attention.set(a, { out: result, logSumExp });
        return { kind: "attention", result, qkv: a, keys: inputs[1] ?? null, logSumExp, attributes };
      }
      case "ManyhandsAttentionGrad": {
        const forward = this.#attention.get(b);
        if (!forward) throw new Error("the gradient of an attention that is not in the graph has no kernel");
        const along = this.#scratch(queriesOf(attributes));
        return { kind: "attentionGrad", result, dy: a, qkv: b, ...forward, along, keys: inputs[2] ?? null, attributes };
      }
      case "ManyhandsCrossEntropy":
        return this.#crossEntropy(result, inputs);
      case "Sum":
        return this.#columnSum(result, a, attributes["axis"] as readonly number[]);
      case "ManyhandsEmbeddingGrad": {
        const first = Number(attributes["first"] ?? 0);
        const rows = Number(attributes["rows"]);
        return { kind: "embeddingGrad", result, dy: a, segments: this.#segmentsOf(b), addend: null, first, rows };
      }
      default:
        throw new Error(`op "${op}" has no WGSL kernel`);
    }
  }

  /** A sum of the same dy over rows, a bias's gradient, rides along. */
  #layerNormGrad(given: { result: ValueId; dGain: ValueId; dy: ValueId; x: ValueId; gain: ValueId }): Core {
    const statistics = this.#statistics.get(given.x);
    if (statistics === undefined) throw new Error("the gradient of a norm that is not in the graph has no kernel");
    const [width = 1] = this.#shape(given.gain);
    let dBias: ValueId | null = null;
    for (const [i, draft] of this.#drafts.entries()) {
      if (draft?.core.kind !== "columnSum" || draft.core.input !== given.dy || draft.core.columns !== width) continue;
      if (draft.core.prologue.length > 0 || draft.steps.length > 0) continue;
      dBias = draft.core.result;
      this.#drafts[i] = null;
      break;
    }
    const rows = sizeOf(this.#shape(given.x)) / width;
    const groups = Math.ceil(rows / rowsPerGroup(rows));
    const partial = this.#scratch([groups, dBias === null ? width : 2 * width]);
    return { kind: "layerNormGrad", ...given, statistics, dBias, partial };
  }

  /** With the gradients of its logits, wherever the graph has them; the loss of each row is summed by an op of its own. */
  #crossEntropy(loss: ValueId, inputs: readonly ValueId[]): Core {
    const logits = inputs.slice(0, -1);
    const targets = inputs.at(-1) ?? -1;
    let first = 0;
    let scale = 1;
    const chunks = logits.map((id): LogitsChunk => {
      const grad = this.#graph.nodes.find((node) => node.op === "ManyhandsCrossEntropyGrad" && node.inputs[1] === id);
      const start = first;
      first += this.#shape(id).at(-1) ?? 0;
      if (!grad) return { logits: id, dLogits: null, first: start };
      const factor = this.#graph.constants.get(grad.inputs[0] ?? -1);
      if (factor === undefined) throw new Error("a loss that is not the end of the graph has no kernel");
      scale = factor;
      const dLogits = grad.outputs[0] ?? -1;
      this.#done.add(dLogits);
      return { logits: id, dLogits, first: start };
    });
    const rows = this.#shape(targets)[0] ?? 0;
    const state = chunks.length > 1 ? this.#scratch([rows, 3]) : null;
    const rowLoss = this.#scratch([rows]);
    this.#addCore({ kind: "crossEntropy", result: rowLoss, targets, chunks, state, scale }, []);
    return { kind: "columnSum", result: loss, input: rowLoss, prologue: [], rows, columns: 1 };
  }

  /** An elementwise op that only the sum reads is computed on the way. */
  #columnSum(result: ValueId, input: ValueId, axes: readonly number[]): Core {
    const shape = this.#shape(input);
    const columns = sizeOf(this.#shape(result));
    // A reshape is not in the graph any more, so the axes may speak of another shape; only the leading ones are ever summed.
    if (axes.some((axis, i) => axis !== i)) throw new Error(`a sum over axes ${axes.join()} has no WGSL kernel`);
    const rows = sizeOf(shape) / columns;
    const index = this.#maker.get(input) ?? -1;
    const draft = this.#drafts[index];
    const only =
      this.#uses.get(input) === 1 && draft?.core.kind === "elementwise" && draft.steps.at(-1)?.output === input;
    const alone = only && [...draft.made].every((id) => id === input || this.#uses.get(id) === 1);
    if (!draft || !alone) return { kind: "columnSum", result, input, prologue: [], rows, columns };
    this.#drafts[index] = null;
    return { kind: "columnSum", result, input, prologue: draft.steps, rows, columns };
  }

  /** For N tokens: how many ids occur, where each one's tokens start [N + 1], the ids [N], the tokens sorted by id [N]. */
  #segmentsOf(ids: ValueId): ValueId {
    const known = this.#segments.get(ids);
    if (known !== undefined) return known;
    const [tokens = 0] = this.#shape(ids);
    const id = this.#values.push({ shape: [3 * tokens + 2], dtype: "int32" }) - 1;
    const name = Object.entries(this.#inputs).find(([, value]) => value === ids)?.[0];
    if (name === undefined) throw new Error("an embedding of ids that are no input has no kernel for its gradient");
    this.#inputs[SEGMENTS + name] = id;
    this.#segments.set(ids, id);
    return id;
  }
}

const HOSTS: ReadonlySet<Core["kind"]> = new Set(["matMul", "layerNorm", "layerNormGrad"]);

function queriesOf({ batch, context, heads }: GraphNode["attributes"]): number[] {
  return [Number(batch), Number(heads), Number(context)];
}

/** Rows that one workgroup of a norm's gradient goes through: at most 256 groups to add up afterwards. */
export function rowsPerGroup(rows: number): number {
  return Math.max(8, Math.ceil(rows / 256));
}
