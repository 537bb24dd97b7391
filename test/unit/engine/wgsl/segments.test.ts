import * as fc from "fast-check";
import { expect, test } from "vitest";
import { writeSegments } from "../../../../shared/engine/wgsl/segments.ts";

test("tokens by id, ascending, each id's tokens in order", () => {
  const out = new Int32Array(3 * 5 + 2);
  writeSegments(out, 0, Int32Array.of(4, 1, 4, 0, 1), 6);
  expect([...out.subarray(0, 5)]).toEqual([3, 0, 1, 3, 5]);
  expect([...out.subarray(7, 10)]).toEqual([0, 1, 4]);
  expect([...out.subarray(12)]).toEqual([3, 1, 4, 0, 2]);
});

test("every token is in exactly one segment, that of its id, whatever was there before", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(6), { minLength: 1, maxLength: 40 }), (drawn) => {
      const N = drawn.length;
      const out = new Int32Array(3 * N + 2).fill(-7);
      writeSegments(out, 0, Int32Array.from(drawn), 7);
      const found: number[] = [];
      for (let s = 0; s < out[0]!; s++) {
        for (let n = out[1 + s]!; n < out[2 + s]!; n++) {
          const token = out[2 * N + 2 + n]!;
          expect(drawn[token]).toBe(out[N + 2 + s]);
          found.push(token);
        }
      }
      expect(found.sort((a, b) => a - b)).toEqual(drawn.map((_, i) => i));
    }),
  );
});
