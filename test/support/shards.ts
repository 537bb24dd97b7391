/** @file Small corpora in memory, with a manifest that describes them truly. */
import { createHash } from "node:crypto";
import type { Split } from "../../shared/data/manifest.ts";
import type { ReadRange } from "../../shared/data/tokenSource.ts";

export type MemoryShards = {
  readonly split: Split;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Every range asked for, in order. */
  readonly reads: { file: string; start: number; end: number }[];
  readonly readRange: ReadRange;
};

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export function memoryShards(shards: readonly Uint16Array[], pieceBytes: number): MemoryShards {
  const files = new Map<string, Uint8Array>();
  const reads: MemoryShards["reads"] = [];
  const described = shards.map((tokens, index) => {
    const file = `train-${index}.bin`;
    const bytes = new Uint8Array(tokens.slice().buffer);
    files.set(file, bytes);
    const pieces: string[] = [];
    for (let start = 0; start < bytes.length; start += pieceBytes)
      pieces.push(sha256(bytes.subarray(start, start + pieceBytes)));
    return { file, tokens: tokens.length, bytes: bytes.length, sha256: sha256(bytes), pieces };
  });
  return {
    split: { tokens: described.reduce((sum, shard) => sum + shard.tokens, 0), shards: described },
    files,
    reads,
    readRange: (file, start, end) => {
      reads.push({ file, start, end });
      const bytes = files.get(file);
      if (!bytes) return Promise.reject(new Error(`no file ${file}`));
      // At an odd offset into a larger buffer, as network libraries hand bytes over.
      const pool = new Uint8Array(end - start + 3);
      pool.set(bytes.subarray(start, end), 1);
      return Promise.resolve(pool.subarray(1, 1 + bytes.subarray(start, end).length));
    },
  };
}
