import * as fc from "fast-check";
import { expect, test } from "vitest";
import { sampleOrder } from "../../../shared/data/windows.ts";

const split = fc.record({ tokens: fc.integer({ min: 2, max: 5000 }), context: fc.integer({ min: 1, max: 300 }) });

test("[I2] an epoch of positions is every window of the split once", () => {
  fc.assert(
    fc.property(split, fc.integer(), fc.integer({ min: 0, max: 5 }), ({ tokens, context }, seed, epoch) => {
      fc.pre(tokens > context);
      const order = sampleOrder({ tokens, context, seed, sampling: "shuffled" });
      const offsets = Array.from({ length: order.samplesPerEpoch }, (_, i) =>
        order.offsetOf(epoch * order.samplesPerEpoch + i),
      );
      const sorted = offsets.toSorted((a, b) => a - b);
      expect(sorted).toEqual(Array.from({ length: order.samplesPerEpoch }, (_, s) => s * context));
      expect((sorted.at(-1) ?? 0) + context + 1).toBeLessThanOrEqual(tokens);
    }),
  );
});

test("a random window lies inside the split, at any position a run can reach", () => {
  const position = fc.oneof(fc.nat(), fc.integer({ min: 0, max: 2 ** 50 }));
  fc.assert(
    fc.property(split, fc.integer(), position, ({ tokens, context }, seed, at) => {
      fc.pre(tokens > context);
      const offset = sampleOrder({ tokens, context, seed, sampling: "random" }).offsetOf(at);
      return offset >= 0 && offset + context + 1 <= tokens;
    }),
  );
});
