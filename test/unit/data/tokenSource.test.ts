import { expect, test } from "vitest";
import { loadBatch } from "../../../shared/data/batch.ts";
import { bytesToTokens, ShardMismatch, tokenSource } from "../../../shared/data/tokenSource.ts";
import { memoryShards } from "../../support/shards.ts";

const counting = (from: number, count: number): Uint16Array => Uint16Array.from({ length: count }, (_, i) => from + i);

test("fetches a piece once for readers that wait together, and not again while it is cached", async () => {
  const shards = memoryShards([counting(0, 100)], 64);
  const source = tokenSource({ ...shards, pieceBytes: 64 });
  await Promise.all([source.read(0, 10), source.read(5, 10), source.read(20, 20)]);
  await source.read(30, 4);
  expect(shards.reads).toEqual([
    { file: "train-0.bin", start: 0, end: 64 },
    { file: "train-0.bin", start: 64, end: 128 },
  ]);
});

test("keeps no more bytes than it may, and drops the piece used longest ago", async () => {
  const shards = memoryShards([counting(0, 100)], 20);
  const source = tokenSource({ ...shards, pieceBytes: 20, cacheBytes: 40 });
  for (const start of [0, 10, 0, 20, 0, 10]) await source.read(start, 1);
  // 0, 10 fetched; 0 used; 20 fetched, 10 dropped; 0 still there; 10 fetched again.
  expect(shards.reads.map(({ start }) => start)).toEqual([0, 20, 40, 20]);
});

test("bytes that are not the manifest's are refused, and read again the next time", async () => {
  const shards = memoryShards([counting(0, 100)], 64);
  const bytes = shards.files.get("train-0.bin") ?? new Uint8Array();
  const source = tokenSource({ ...shards, pieceBytes: 64 });
  bytes[70] = 99;
  await expect(source.read(0, 100)).rejects.toThrow(ShardMismatch);
  await expect(source.read(40, 2)).rejects.toThrow(/train-0.bin: bytes 64–128/);
  await expect(source.read(0, 32)).resolves.toEqual(counting(0, 32));
  bytes[70] = 35;
  await expect(source.read(0, 100)).resolves.toEqual(counting(0, 100));
});

test("an answer of another length is refused, and a failed read is passed on", async () => {
  const shards = memoryShards([counting(0, 100)], 64);
  const short = tokenSource({ ...shards, pieceBytes: 64, readRange: () => Promise.resolve(new Uint8Array(10)) });
  await expect(short.read(0, 1)).rejects.toThrow("got 10 bytes of 0–64");
  const broken = tokenSource({ ...shards, pieceBytes: 64, readRange: () => Promise.reject(new Error("HTTP 503")) });
  await expect(broken.read(0, 1)).rejects.toThrow("HTTP 503");
});

test("tokens outside the split are refused", async () => {
  const shards = memoryShards([counting(0, 100)], 64);
  const source = tokenSource({ ...shards, pieceBytes: 64 });
  for (const [start, count] of [
    [99, 2],
    [-1, 1],
    [0.5, 1],
    [0, 101],
  ] as const)
    // prettier-ignore
    await expect(source.read(start, count)).rejects.toThrow(RangeError);
});

test("a batch's targets are its inputs one token on, and padding rows count nothing", async () => {
  const shards = memoryShards([counting(100, 7), counting(107, 50)], 8);
  const source = tokenSource({ ...shards, pieceBytes: 8 });
  const batch = await loadBatch({ source, offsets: [4, 0], context: 4, rows: 3 });
  expect(batch.batchSize).toBe(3);
  expect(Array.from(batch.inputs)).toEqual([104, 105, 106, 107, 100, 101, 102, 103, 0, 0, 0, 0]);
  expect(Array.from(batch.targets)).toEqual([105, 106, 107, 108, 101, 102, 103, 104, -1, -1, -1, -1]);
  await expect(loadBatch({ source, offsets: [0, 1], context: 4, rows: 1 })).rejects.toThrow(RangeError);
});

test("the tokens of a part of some bytes are that part's, also of a Node Buffer, at an odd place too", () => {
  const bytes = new Uint8Array([9, 1, 0, 2, 0, 3, 0]);
  for (const memory of [bytes, Buffer.from(bytes.buffer)]) {
    expect([...bytesToTokens(memory.subarray(1, 5))]).toEqual([1, 2]);
  }
  expect([...bytesToTokens(bytes.slice(1, 5))]).toEqual([1, 2]);
});
