/** @file The description of a prepared corpus, `manifest.json`: what a worker needs to fetch tokens and to verify them. */

import * as z from "zod";
import { MAX_VOCABULARY, type TokenizerKind } from "../tokenizer/tokenizer.ts";

/** Raised when older readers would misread the files. Also part of the cache key of prepared corpora. */
export const MANIFEST_FORMAT = 1;

export const MANIFEST_FILE = "manifest.json";

/** A file of token ids, uint16 little-endian: by itself a nanoGPT `.bin`. */
export type Shard = {
  /** A plain name beside the manifest. */
  readonly file: string;
  readonly tokens: number;
  readonly bytes: number;
  /** Of the whole file, lower-case hex. */
  readonly sha256: string;
  /** SHA-256 of every `pieceBytes` bytes (the last piece may be shorter), so that a range can be verified by itself. */
  readonly pieces: readonly string[];
};

export type Split = {
  readonly tokens: number;
  /** In order; the split is their concatenation. */
  readonly shards: readonly Shard[];
};

export type Manifest = {
  readonly format: typeof MANIFEST_FORMAT;
  /** For people: what the text is. */
  readonly name: string;
  readonly tokenizer: {
    readonly kind: TokenizerKind;
    /** A Hugging Face `tokenizer.json` beside the manifest. */
    readonly file: string;
    readonly vocabulary: number;
    readonly sha256: string;
  };
  readonly pieceBytes: number;
  readonly splits: { readonly train: Split; readonly val: Split };
};

const count = z.int().nonnegative();
const digest = z.string().regex(/^[0-9a-f]{64}$/, "must be a SHA-256 in lower-case hex");
/** No separators and no leading dot: the name is joined to a folder and to a URL. */
const plainFile = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/, "must be a plain file name");

const splitSchema = z.strictObject({
  tokens: count,
  shards: z
    .array(
      z.strictObject({
        file: plainFile,
        tokens: z.int().positive(),
        bytes: z.int().positive(),
        sha256: digest,
        pieces: z.array(digest),
      }),
    )
    .max(100_000),
});

const manifestSchema = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  name: z.string().max(200),
  tokenizer: z.strictObject({
    kind: z.enum(["char", "bpe"]),
    file: plainFile,
    vocabulary: z.int().positive().max(MAX_VOCABULARY),
    sha256: digest,
  }),
  /** Even, so that no token straddles two pieces; bounded, because a piece is held and hashed whole. */
  pieceBytes: z
    .int()
    .multipleOf(2)
    .min(2)
    .max(16 * 2 ** 20),
  splits: z.strictObject({ train: splitSchema, val: splitSchema }),
});

/** @throws Error naming the first field that is wrong: the JSON may come from a stranger. */
export function parseManifest(json: unknown): Manifest {
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`corpus manifest: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
  }
  const manifest = parsed.data;
  for (const [name, split] of Object.entries(manifest.splits)) {
    const total = split.shards.reduce((sum, shard) => sum + shard.tokens, 0);
    if (total !== split.tokens)
      throw new Error(`corpus manifest: ${name} has ${split.tokens} tokens, its shards ${total}`);
    for (const { file, tokens, bytes, pieces } of split.shards) {
      if (bytes !== 2 * tokens) throw new Error(`corpus manifest: ${file} has ${bytes} bytes for ${tokens} tokens`);
      const expected = Math.ceil(bytes / manifest.pieceBytes);
      if (pieces.length !== expected)
        throw new Error(`corpus manifest: ${file} has ${pieces.length} piece hashes, not ${expected}`);
    }
  }
  return manifest;
}
