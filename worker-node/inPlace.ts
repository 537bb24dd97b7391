/**
 * @file Runs of ONNX Runtime that write their outputs where the caller wants them, and nowhere else. Its binding for Node copies
 * every output into a new buffer when a run is over, also one that it was given a buffer for: of a step that is the whole gradient, 2
 * to 4 % of the time and garbage of θ's size. It copies in the outputs' order, and a sequence it refuses to copy. So here the first
 * output is a sequence: the run is over, the outputs are written, and what the refusal keeps from happening is the copying.
 */
import type * as ort from "onnxruntime-node";
import type { OnnxGraph } from "../shared/engine/onnxProto.ts";

const SEQUENCE = "nothing";

/** What the binding says of a sequence, after the run. */
const REFUSAL = "Non tensor type is temporarily not supported.";

/** For {@link runInPlace}. */
export function withSequenceFirst(graph: OnnxGraph): OnnxGraph {
  return {
    ...graph,
    nodes: [...graph.nodes, { op: "SequenceEmpty", inputs: [], outputs: [SEQUENCE] }],
    outputs: [{ name: SEQUENCE, sequenceOf: "float32" }, ...graph.outputs],
  };
}

/**
 * Runs a session of such a graph. `outputs`: every one that is wanted, with its buffer. A binding that learns to copy sequences, or not
 * to copy at all, gives the same outputs.
 */
export async function runInPlace(
  session: ort.InferenceSession,
  inputs: Readonly<Record<string, ort.Tensor>>,
  outputs: Readonly<Record<string, ort.Tensor>>,
): Promise<void> {
  try {
    await session.run(inputs, { [SEQUENCE]: null, ...outputs });
  } catch (error) {
    if (!(error instanceof Error) || error.message !== REFUSAL) throw error;
  }
}
