import { expect, test } from "vitest";
import { stepGraph } from "../../../../shared/engine/stepGraph.ts";
import { arenaSegments } from "../../../../shared/engine/wgsl/arenas.ts";
import { cleanUp } from "../../../../shared/engine/wgsl/cleanUp.ts";
import { split } from "../../../../shared/engine/wgsl/split.ts";
import { layoutOf, sizeOf } from "../../../../shared/numerics/layout.ts";
import { engineCase } from "../../../support/engineCases.ts";

const { spec, layout } = engineCase(
  "",
  { kind: "gpt", layers: 1, heads: 1, width: 8, context: 6, vocabulary: 200, bias: false, dropout: 0 },
  2,
);
const graph = cleanUp(stepGraph("gradient", spec, layout, 2));

test("nothing used is larger than a binding, and the parts of table and gradient are all of them", () => {
  const limit = 64 * 4 * 12;
  const cut = split(graph, limit);
  const used = new Set(cut.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]));
  for (const id of used) expect(4 * sizeOf(cut.values[id]?.shape ?? [])).toBeLessThanOrEqual(limit);
  for (const [names, prefix] of [
    [cut.inputs, "param:wte.weight@"],
    [cut.outputs, "gradient:wte.weight@"],
  ] as const) {
    const parts = Object.entries(names).filter(([name]) => name.startsWith(prefix));
    expect(parts.map(([name]) => Number(name.slice(prefix.length)))).toEqual([0, 512, 1024, 1536]);
    expect(parts.reduce((sum, [, id]) => sum + sizeOf(cut.values[id]?.shape ?? []), 0)).toBe(200 * 8);
  }
});

test("what fits is left alone; what cannot be cut is named", () => {
  expect(split(graph, 64 * 1024)).toBe(graph);
  expect(() => split(graph, 128)).toThrow("do not fit a binding of 128 bytes");
});

test("arenas are cut between tensors; a tensor larger than a buffer is named", () => {
  const layout = layoutOf(["a", "b", "c"].map((name) => ({ name, shape: [300] })));
  expect(arenaSegments(layout, 2 * 4 * 512)).toEqual([
    { start: 0, end: 1024 },
    { start: 1024, end: 1536 },
  ]);
  expect(() => arenaSegments(layout, 4 * 256)).toThrow('parameter "a"');
});
