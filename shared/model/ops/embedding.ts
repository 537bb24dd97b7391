/** @file Token embedding: y[n] = table[ids[n]]; its gradient adds each row of dy to the row of the table it came from. */
import * as tf from "@tensorflow/tfjs-core";
import { defineOp, only } from "./op.ts";

const runForward = defineOp<"table" | "ids">({
  name: "ManyhandsEmbedding",
  inputs: ["table", "ids"],
  outputs: ({ table, ids }) => [{ shape: [ids.shape[0] ?? 0, table.shape[1] ?? 0], dtype: "float32" }],
  compute: ({ table, ids }) => [tf.gather(table, ids)],
  gradient: (dy, { table, ids }) => ({ table: only(runBackward({ dy, ids }, { rows: table.shape[0] ?? 0 })) }),
});

/**
 * dtable[r] = Σ over n with ids[n] = r of dy[n], as onehotᵀ·dy. Not tfjs's own (unsortedSegmentSum): on GPUs that adds with
 * a compare-and-swap loop, so two runs differ in their last bits, and wasm lacks it. It costs as much as the head's
 * product, block by block so that the one-hot matrix stays small.
 */
const runBackward = defineOp<"dy" | "ids", never, { rows: number }>({
  name: "ManyhandsEmbeddingGrad",
  inputs: ["dy", "ids"],
  outputs: ({ dy }, { rows }) => [{ shape: [rows, dy.shape[1] ?? 0], dtype: "float32" }],
  compute: ({ dy, ids }, { rows }) => {
    const columns = tf.expandDims(ids, 0); // [1, N]
    const blockRows = Math.max(1, Math.floor(ONE_HOT_ELEMENTS / ids.size));
    const blocks: tf.Tensor[] = [];
    for (let start = 0; start < rows; start += blockRows) {
      const end = Math.min(rows, start + blockRows);
      const names = tf.expandDims(tf.range(start, end, 1, "int32"), 1); // [block, 1]
      const oneHot = tf.cast(tf.equal(names, columns), "float32"); // [block, N]
      blocks.push(tf.matMul(oneHot, dy));
    }
    return [blocks.length === 1 ? only(blocks) : tf.concat(blocks, 0)];
  },
});

/** 16 MiB of f32: far below WebGPU's default binding limit of 128 MiB. */
const ONE_HOT_ELEMENTS = 4 * 1024 * 1024;

/** Shapes: table [V, d], ids [N] int32 → [N, d]. */
export function embedding(table: tf.Tensor2D, ids: tf.Tensor1D): tf.Tensor2D {
  return only(runForward({ table, ids }, {})) as tf.Tensor2D;
}
