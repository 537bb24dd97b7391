import { expect, test } from "vitest";
import { layoutOf } from "../../../shared/numerics/layout.ts";

test("every slot starts at a multiple of 256 and the arena ends aligned", () => {
  const layout = layoutOf([
    { name: "a", shape: [3, 5] },
    { name: "b", shape: [257] },
    { name: "c", shape: [1] },
  ]);
  expect(layout.slots.map(({ offset, size, decay }) => [offset, size, decay])).toEqual([
    [0, 15, true],
    [256, 257, false],
    [768, 1, false],
  ]);
  expect(layout.length).toBe(1024);
  expect(layout.parameters).toBe(273);
});

test("a repeated name is refused", () => {
  expect(() => layoutOf([{ name: "a", shape: [1] }, { name: "a", shape: [2] }])).toThrow(/"a"/); // prettier-ignore
});
