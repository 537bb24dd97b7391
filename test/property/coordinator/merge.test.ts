import * as fc from "fast-check";
import { expect, test } from "vitest";
import { mergeComplete, startMerge, takePart, type Part } from "../../../coordinator/optimizer/merge.ts";

/** A round cut into parts, and the parts in some order of arrival, some of them twice. */
const arrivals = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 20 }).chain((sizes) => {
  let firstUnit = 0;
  const parts = sizes.map((units) => {
    const part = { firstUnit, units };
    firstUnit += units;
    return part;
  });
  const twice = fc.subarray(parts);
  return fc.record({
    parts: fc.constant(parts),
    order: twice.chain((again) =>
      fc.shuffledSubarray([...parts, ...again], { minLength: parts.length + again.length }),
    ),
  });
});

test("[I1] in whatever order parts arrive, they are added in unit order, each once", () => {
  fc.assert(
    fc.property(arrivals, ({ parts, order }) => {
      const units = parts.reduce((sum, part) => sum + part.units, 0);
      let state = startMerge<Part>(units);
      const added: Part[] = [];
      let refused = 0;
      for (const part of order) {
        const decision = takePart(state, part, parts.length);
        state = decision.state;
        if ("refused" in decision) refused += 1;
        else added.push(...decision.add);
      }
      expect(added).toEqual(parts);
      expect(refused).toBe(order.length - parts.length);
      expect(mergeComplete(state)).toBe(true);
    }),
  );
});

test("[I5] however parts arrive, no more than the bound wait, and offering the refused ones again completes the round", () => {
  fc.assert(
    fc.property(arrivals, fc.nat(3), ({ parts, order }, maxWaiting) => {
      let state = startMerge<Part>(parts.reduce((sum, part) => sum + part.units, 0));
      let offers = order;
      for (let turn = 0; turn <= parts.length; turn++) {
        const again: Part[] = [];
        for (const part of offers) {
          const decision = takePart(state, part, maxWaiting);
          state = decision.state;
          expect(state.waiting.length).toBeLessThanOrEqual(maxWaiting);
          if ("refused" in decision && decision.refused === "too-many-waiting") again.push(part);
        }
        offers = again;
      }
      expect(mergeComplete(state)).toBe(true);
    }),
  );
});
