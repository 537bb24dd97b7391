import { expect, test } from "vitest";
import { parseManifest, type Manifest } from "../../../shared/data/manifest.ts";
import { memoryShards } from "../../support/shards.ts";

const manifest = (): Manifest => ({
  format: 1,
  name: "test",
  tokenizer: { kind: "bpe", file: "tokenizer.json", vocabulary: 300, sha256: "0".repeat(64) },
  pieceBytes: 64,
  splits: {
    train: memoryShards([new Uint16Array(100), new Uint16Array(7)], 64).split,
    val: memoryShards([new Uint16Array(10)], 64).split,
  },
});

/** A copy with the value at a dotted path replaced. */
const changed = (path: string, value: unknown): unknown => {
  const copy = JSON.parse(JSON.stringify(manifest())) as Record<string, unknown>;
  const keys = path.split(".");
  const last = keys.pop() ?? "";
  const owner = keys.reduce<Record<string, unknown>>((at, key) => at[key] as Record<string, unknown>, copy);
  owner[last] = value;
  return copy;
};

test("a manifest survives JSON", () => {
  expect(parseManifest(JSON.parse(JSON.stringify(manifest())))).toEqual(manifest());
});

test("a manifest that is wrong anywhere is refused, and the field named", () => {
  const cases: [string, unknown, RegExp][] = [
    ["format", 2, /format/],
    ["tokenizer.vocabulary", 65_536, /tokenizer.vocabulary/],
    ["tokenizer.file", "../../etc/passwd", /tokenizer.file: must be a plain file name/],
    ["splits.train.shards.0.file", "a/b.bin", /splits.train.shards.0.file/],
    ["splits.train.shards.0.file", ".hidden", /splits.train.shards.0.file/],
    ["splits.train.shards.0.sha256", "A".repeat(64), /lower-case hex/],
    ["splits.train.shards.0.tokens", -1, /tokens/],
    ["splits.train.shards.0.tokens", 99, /train has 107 tokens, its shards 106/],
    ["splits.train.shards.0.bytes", 198, /train-0.bin has 198 bytes for 100 tokens/],
    ["splits.val.shards.0.pieces", [], /0 piece hashes, not 1/],
    ["splits.val.tokens", 11, /val has 11 tokens, its shards 10/],
    ["pieceBytes", 63, /pieceBytes/],
    ["pieceBytes", 2 ** 30, /pieceBytes/],
    ["surprise", 1, /surprise/],
  ];
  for (const [path, value, message] of cases) expect(() => parseManifest(changed(path, value)), path).toThrow(message);
  for (const value of [null, [], "text", 7]) expect(() => parseManifest(value)).toThrow(/the file/);
});
