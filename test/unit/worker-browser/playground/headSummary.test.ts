import { expect, test } from "vitest";
import { headOf, strongest, summarise } from "../../../../worker-browser/playground/headSummary.ts";

/** [4 queries, 4 keys]; the first can only look at itself. */
const head = Float32Array.of(...[1, 0, 0, 0], ...[0.75, 0.25, 0, 0], ...[0, 1, 0, 0], ...[0.25, 0.25, 0.25, 0.25]);

test("a head in numbers: to itself, to the one before, to the first, how far back, among how many", () => {
  const { self, previous, first, distance, spread } = summarise(head);
  expect(self).toBeCloseTo((0.25 + 0 + 0.25) / 3, 6);
  expect(previous).toBeCloseTo((0.75 + 1 + 0.25) / 3, 6);
  expect(first).toBeCloseTo((0.75 + 0 + 0.25) / 3, 6);
  expect(distance).toBeCloseTo((0.75 + 1 + (3 + 2 + 1) / 4) / 3, 6);
  const entropy = -(0.75 * Math.log(0.75) + 0.25 * Math.log(0.25));
  expect(spread).toBeCloseTo((Math.exp(entropy) + 1 + 4) / 3, 6);
});

test("the strongest keys of a query come first, equal ones in the text's order, none after the query", () => {
  expect(strongest(head, 1, 3)).toEqual([{ key: 0, p: 0.75 }, { key: 1, p: 0.25 }]); // prettier-ignore
  expect(strongest(head, 3, 2).map(({ key }) => key)).toEqual([0, 1]);
});

test("a head is found by its layer and number", () => {
  const values = Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => i);
  const maps = { labels: ["a", "b"], layers: 2, heads: 3, values };
  expect([...headOf(maps, 1, 2)]).toEqual([20, 21, 22, 23]);
  expect(() => headOf(maps, 2, 0)).toThrow("no head 0 in layer 2");
});
