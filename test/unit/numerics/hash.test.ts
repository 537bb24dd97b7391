import { expect, test } from "vitest";
import { CHUNK_ELEMENTS, chunkBounds, chunkCount, chunkRuns } from "../../../shared/numerics/chunks.ts";
import { combineHashes, hashChunk, hashParams } from "../../../shared/numerics/hash.ts";
import { randomNormal } from "../../../shared/numerics/rng.ts";

const params = Float32Array.from({ length: 2 * CHUNK_ELEMENTS + 300 }, (_, i) => randomNormal(1, i));

test("the hash is pinned: changing it would make every running worker 'differ'", () => {
  expect(hashParams(new Float32Array([1, -2.5, 0, 3e-9, 7]))).toBe("9d86b694628d4726");
  expect(hashParams(params)).toBe("037c6a83f14149d1");
});

test("chunks hashed in any order and by any thread combine to the same hash", () => {
  const bits = new Uint32Array(params.buffer);
  const hashes = new Uint32Array(2 * chunkCount(params.length));
  for (const chunk of [2, 0, 1]) {
    const { from, to } = chunkBounds(chunk, params.length);
    hashChunk(bits, from, to, hashes, 2 * chunk);
  }
  expect(combineHashes(hashes, params.length)).toBe(hashParams(params));
});

test("one flipped bit anywhere changes both halves", () => {
  const bits = new Uint32Array(params.slice().buffer);
  const view = new Float32Array(bits.buffer);
  const before = hashParams(view);
  for (const index of [0, 1, 12345, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, bits.length - 1]) {
    for (const bit of [0, 1, 15, 30, 31]) {
      bits[index]! ^= 1 << bit;
      const after = hashParams(view);
      expect(after.slice(0, 8)).not.toBe(before.slice(0, 8));
      expect(after.slice(8)).not.toBe(before.slice(8));
      bits[index]! ^= 1 << bit;
    }
  }
  expect(hashParams(view)).toBe(before);
});

test("sign flips, swaps and moves of neighbours are seen: 20,000 variants of one array hash differently", () => {
  const base = new Float32Array(200).fill(1);
  base[7] = 2;
  const seen = new Set<string>([hashParams(base)]);
  let variants = 1;
  for (let i = 0; i < 200; i++) {
    for (let j = i + 1; j < 200; j++) {
      const flipped = base.slice();
      flipped[i] = -flipped[i]!;
      flipped[j] = -flipped[j]!;
      seen.add(hashParams(flipped));
      variants++;
    }
    if (i !== 7) {
      const moved = base.slice();
      [moved[7], moved[i]] = [moved[i]!, moved[7]!];
      seen.add(hashParams(moved));
      variants++;
    }
  }
  expect(seen.size).toBe(variants);
});

test("length counts: trailing zeros change the hash", () => {
  expect(hashParams(new Float32Array(256))).not.toBe(hashParams(new Float32Array(512)));
});

test("runs of chunks cover all chunks once, evenly, with no empty run", () => {
  for (const [length, threads] of [
    [1, 4],
    [CHUNK_ELEMENTS, 2],
    [13 * CHUNK_ELEMENTS - 5, 4],
    [13 * CHUNK_ELEMENTS, 1],
  ] as const) {
    // prettier-ignore
    const runs = chunkRuns(length, threads);
    expect(runs[0]!.first).toBe(0);
    expect(runs.at(-1)!.last).toBe(chunkCount(length));
    runs.slice(1).forEach((run, i) => expect(run.first).toBe(runs[i]!.last));
    const sizes = runs.map((run) => run.last - run.first);
    expect(Math.min(...sizes)).toBeGreaterThan(0);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  }
});
