/** @file What rules write to while a graph becomes ONNX: nodes, constants, and which ONNX name holds which value. */
import { type Graph, type GraphNode, useCounts, type ValueId } from "./graph.ts";
import type { OnnxAttribute, OnnxConstant, OnnxGraph, OnnxNode, OnnxType, OnnxValue } from "./onnxProto.ts";

/** How one op becomes ONNX nodes. */
export type Rule = (node: GraphNode, lowering: Lowering) => void;

export type EmitOptions = {
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  readonly domain?: string;
  /** Names to write to instead of a new one; "" for an output nobody needs. */
  readonly outputs?: readonly string[];
};

export type LoweringOptions = {
  readonly rules: Readonly<Record<string, Rule>>;
  /** Ops that are put off until the sum or the product they are part of, when that is their only use. */
  readonly waits: ReadonlySet<string>;
  /** Elements from which a value goes to a kernel of our own. */
  readonly kernelsFrom: number;
};

export class Lowering {
  readonly graph: Graph;
  readonly kernelsFrom: number;
  readonly #rules: Readonly<Record<string, Rule>>;
  readonly #waits: ReadonlySet<string>;
  readonly #uses: ReadonlyMap<ValueId, number>;
  readonly #names = new Map<ValueId, string>();
  readonly #waiting = new Map<ValueId, GraphNode>();
  #nodes: OnnxNode[] = [];
  readonly #constants = new Map<string, OnnxConstant>();
  readonly #shared = new Map<string, unknown>();
  #count = 0;

  constructor(graph: Graph, { rules, waits, kernelsFrom }: LoweringOptions) {
    this.graph = graph;
    this.kernelsFrom = kernelsFrom;
    this.#rules = rules;
    this.#waits = waits;
    this.#uses = useCounts(graph);
    for (const [name, id] of Object.entries(graph.inputs)) this.#names.set(id, name);
  }

  lower(node: GraphNode): void {
    const [output = -1] = node.outputs;
    if (this.#waits.has(node.op) && this.#uses.get(output) === 1 && !this.#outputName(output)) {
      this.#waiting.set(output, node);
    } else {
      this.apply(node);
    }
  }

  /** The value's name in the ONNX graph; lowers its node now if that was waiting. */
  name(id: ValueId): string {
    const waiting = [...this.#waiting.values()].find(({ outputs }) => outputs.includes(id));
    if (waiting) {
      this.#waiting.delete(waiting.outputs[0] ?? -1);
      this.apply(waiting);
    }
    const name = this.#names.get(id);
    if (name !== undefined) return name;
    const constant = this.graph.constants.get(id);
    if (constant === undefined) throw new Error(`value ${id} is read before it is computed`);
    if (this.shape(id).length > 0) throw new Error(`a constant [${this.shape(id).join()}] has no lowering`);
    return this.scalar(constant);
  }

  /** The node that computes the value, if it has been put off; the caller lowers it in its own way. */
  takeWaiting(id: ValueId, op: string): GraphNode | undefined {
    const node = this.#waiting.get(id);
    if (node?.op !== op) return undefined;
    this.#waiting.delete(id);
    return node;
  }

  shape(id: ValueId): readonly number[] {
    return this.#spec(id).shape;
  }

  /** The name to write a value under: the graph's own for its outputs. */
  target(id: ValueId): string {
    const name = this.#outputName(id) ?? `v${id}`;
    this.#names.set(id, name);
    return name;
  }

  emit(op: string, inputs: readonly string[], { attributes = {}, domain = "", outputs }: EmitOptions = {}): string {
    const written = outputs ?? [this.fresh()];
    this.#nodes.push({ op, inputs, outputs: written, attributes, domain });
    return written[0] ?? "";
  }

  /** A new ONNX name. */
  fresh(): string {
    return `t${this.#count++}`;
  }

  scalar(value: number): string {
    return this.constant("float32", [], [value]);
  }

  /** Equal short constants are one; long ones a rule shares itself. */
  constant(type: OnnxType, shape: readonly number[], values: readonly number[]): string {
    const name = `c${this.#constants.size}`;
    const key = values.length > 16 ? name : `${type}[${shape.join()}]${values.join()}`;
    const known = this.#constants.get(key);
    if (known) return known.name;
    this.#constants.set(key, { name, type, shape, values });
    return name;
  }

  reshape(x: string, shape: readonly number[], options: EmitOptions = {}): string {
    return this.emit("Reshape", [x, this.constant("int64", [shape.length], shape)], options);
  }

  /** Computes once per key what several rules need, such as the softmax of a loss and of its gradient. */
  share<T>(key: string, compute: () => T): T {
    if (!this.#shared.has(key)) this.#shared.set(key, compute());
    return this.#shared.get(key) as T;
  }

  /**
   * Runs `body` on one slice of the inputs after another, so that a chain of elementwise nodes stays in the cache instead
   * of sweeping memory once a node. ONNX's Scan: slices are views, not copies. Inputs are [slices·S₀, …S], as are the
   * outputs, whose names it returns. The body may read other names from outside, resolved before the call.
   */
  scan(
    slices: number,
    inputs: readonly { readonly name: string; readonly slice: readonly number[] }[],
    outputs: readonly (readonly number[])[],
    body: (slices: readonly string[]) => readonly string[],
  ): string[] {
    const outer = this.#nodes;
    this.#nodes = [];
    const given = inputs.map(() => this.fresh());
    const results = body(given);
    const graph: OnnxGraph = {
      nodes: this.#nodes,
      inputs: given.map((name, i) => floats(name, inputs[i]?.slice)),
      outputs: results.map((name, i) => floats(name, outputs[i])),
      constants: [],
    };
    this.#nodes = outer;
    const stacked = inputs.map(({ name, slice }) => this.reshape(name, [slices, ...slice]));
    const written = outputs.map(() => this.fresh());
    this.emit("Scan", stacked, {
      attributes: { num_scan_inputs: inputs.length, body: { graph } },
      outputs: written,
    });
    return written;
  }

  finish(): OnnxGraph {
    const outputs = Object.entries(this.graph.outputs).map(([name, id]): OnnxValue => {
      const source = this.name(id);
      // The same value under two names, or an input handed through.
      if (source !== name) this.emit("Identity", [source], { outputs: [name] });
      return { name, ...this.#type(id) };
    });
    const inputs = Object.entries(this.graph.inputs).map(([name, id]) => ({ name, ...this.#type(id) }));
    return { nodes: this.#nodes, inputs, outputs, constants: [...this.#constants.values()] };
  }

  /** By the rule of its op. */
  apply(node: GraphNode): void {
    const rule = this.#rules[node.op];
    if (!rule) throw new Error(`op "${node.op}" has no ONNX lowering`);
    rule(node, this);
  }

  #outputName(id: ValueId): string | undefined {
    return Object.entries(this.graph.outputs).find(([, output]) => output === id)?.[0];
  }

  #spec(id: ValueId): Graph["values"][number] {
    const spec = this.graph.values[id];
    if (!spec) throw new Error(`the graph has no value ${id}`);
    return spec;
  }

  #type(id: ValueId): Pick<OnnxValue, "type" | "shape"> {
    const { dtype, shape } = this.#spec(id);
    return { type: dtype, shape };
  }
}

function floats(name: string, shape: readonly number[] = []): OnnxValue {
  return { name, type: "float32", shape };
}

export type ProductOptions = {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** The rows come before the batches: [M, …, K] instead of […, M, K]. */
  readonly rowsFirstA?: boolean;
  readonly rowsFirstB?: boolean;
  readonly alpha?: number;
  readonly output?: string;
};

/** alpha·op(a)·op(b) for matrices or batches of them; FusedMatMul transposes by strides, without a copy. */
export function product(
  lowering: Lowering,
  [a = "", b = ""]: readonly string[],
  {
    transA = false,
    transB = false,
    rowsFirstA = false,
    rowsFirstB = false,
    alpha = 1,
    output = lowering.fresh(),
  }: ProductOptions,
): string {
  const isPlain = !transA && !transB && !rowsFirstA && !rowsFirstB && alpha === 1;
  if (isPlain) return lowering.emit("MatMul", [a, b], { outputs: [output] });
  return lowering.emit("FusedMatMul", [a, b], {
    domain: "com.microsoft",
    attributes: {
      transA: Number(transA),
      transB: Number(transB),
      transBatchA: Number(rowsFirstA),
      transBatchB: Number(rowsFirstB),
      alpha: { float: alpha },
    },
    outputs: [output],
  });
}

/** The largest divisor of `count` that is at most `limit`. */
export function divisorUpTo(count: number, limit: number): number {
  for (let divisor = Math.min(count, Math.floor(limit)); divisor > 1; divisor--) {
    if (count % divisor === 0) return divisor;
  }
  return 1;
}
