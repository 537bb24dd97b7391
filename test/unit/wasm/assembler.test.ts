import { expect, test } from "vitest";
import { defineFunction, encodeModule, forRange, i32, local } from "../../../shared/wasm/assembler.ts";

test("constants of any size arrive as they are", () => {
  const constants = [0, 1, -1, 63, 64, -64, -65, 127, 128, 8191, 8192, 2 ** 31 - 1, -(2 ** 31), 0x9e3779b1 | 0];
  const functions = constants.map((value, index) => defineFunction(`f${index}`, {}, ["i32"], () => i32.const(value)));
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(encodeModule([], functions)));
  expect(constants.map((_, index) => (exports[`f${index}`] as () => number)())).toEqual(constants);
});

test("a loop takes its steps until the end, and none when there is nothing", () => {
  const count = defineFunction("count", { at: "i32", end: "i32" }, ["i32"], ({ at, end }, variable) => {
    const turns = variable("i32");
    const next = local.set(turns, i32.add(local.get(turns), i32.const(1)));
    return [...forRange(at, local.get(end), 3, next), ...local.get(turns)];
  });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(encodeModule([], [count])));
  const run = exports["count"] as (at: number, end: number) => number;
  expect([run(0, 9), run(0, 10), run(5, 5), run(6, 5), run(-6, -3)]).toEqual([3, 4, 0, 0, 1]);
});
