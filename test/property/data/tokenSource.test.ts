import * as fc from "fast-check";
import { expect, test } from "vitest";
import { tokenSource } from "../../../shared/data/tokenSource.ts";
import { memoryShards } from "../../support/shards.ts";

test("any range of tokens comes back, across pieces and shards, whatever the cache holds", async () => {
  const shard = fc.uint16Array({ minLength: 1, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(shard, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 20 }).map((half) => 2 * half),
      fc.integer({ min: 0, max: 100 }),
      fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 8 }),
      async (shards, pieceBytes, cacheBytes, ranges) => {
        const all = shards.flatMap((tokens) => Array.from(tokens));
        const memory = memoryShards(shards, pieceBytes);
        const source = tokenSource({ ...memory, pieceBytes, cacheBytes });
        expect(source.tokens).toBe(all.length);
        await Promise.all(
          ranges.map(async ([a, b]) => {
            const start = a % all.length;
            const count = b % (all.length - start + 1);
            expect(Array.from(await source.read(start, count))).toEqual(all.slice(start, start + count));
          }),
        );
      },
    ),
  );
});
