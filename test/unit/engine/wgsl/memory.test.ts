import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ALIGNMENT, planMemory } from "../../../../shared/engine/wgsl/memory.ts";

test("what is alive together does not overlap, nothing passes the buffer's end, and the bound is a bound", () => {
  const lifetime = fc.record({ bytes: fc.integer({ min: 1, max: 5000 }), from: fc.nat(20), length: fc.nat(8) });
  fc.assert(
    fc.property(fc.array(lifetime, { maxLength: 40 }), (drawn) => {
      const lifetimes = drawn.map(({ bytes, from, length }, id) => ({ id, bytes, from, to: from + length }));
      const { places, buffers, lowerBound } = planMemory(lifetimes, 8192);
      for (const a of lifetimes) {
        const at = places.get(a.id)!;
        expect(at.offset % ALIGNMENT).toBe(0);
        expect(at.offset + a.bytes).toBeLessThanOrEqual(buffers[at.buffer]!);
        expect(buffers[at.buffer]).toBeLessThanOrEqual(8192);
        for (const b of lifetimes) {
          const other = places.get(b.id)!;
          const alive = a.id < b.id && a.from <= b.to && b.from <= a.to;
          if (!alive || at.buffer !== other.buffer) continue;
          expect(at.offset + a.bytes <= other.offset || other.offset + b.bytes <= at.offset).toBe(true);
        }
      }
      expect(buffers.reduce((sum, bytes) => sum + bytes, 0)).toBeGreaterThanOrEqual(lowerBound);
    }),
  );
});

test("a value larger than a buffer is refused with both numbers", () => {
  expect(() => planMemory([{ id: 0, bytes: 9000, from: 0, to: 1 }], 8192)).toThrow(
    "a value of 9216 bytes, a buffer has 8192",
  );
});
