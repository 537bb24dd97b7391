import { expect, test } from "vitest";
import { fastestOf } from "../../../worker-node/fastest.ts";

/** Engines that take `ms`; one of "broken" does not start, one of NaN fails its step. Writes down who is there. */
function field(times: Readonly<Record<string, number | "broken">>) {
  const there = new Set<string>();
  let most = 0;
  const contenders = Object.entries(times).map(([name, ms]) => ({
    name,
    start: () => {
      if (ms === "broken") return Promise.reject(new Error("no driver"));
      there.add(name);
      most = Math.max(most, there.size);
      return Promise.resolve({ name, ms });
    },
  }));
  const chosen = fastestOf(contenders, {
    time: ({ ms }) => (Number.isNaN(ms) ? Promise.reject(new Error("out of memory")) : Promise.resolve(ms)),
    giveUp: ({ name }) => {
      there.delete(name);
      return Promise.resolve();
    },
  });
  return { chosen, there, most: () => most };
}

test.each([
  { first: 3, second: 5, third: 4, wins: "first" },
  { first: 5, second: 3, third: 4, wins: "second" },
  { first: 5, second: 4, third: 3, wins: "third" },
])("the one that takes least stays, the others are given up: $wins", async ({ first, second, third, wins }) => {
  const { chosen, there, most } = field({ first, second, third });
  const { name, others, fastest } = await chosen;
  expect([name, fastest.name]).toEqual([wins, wins]);
  expect([...there]).toEqual([wins]);
  expect(most()).toBe(2);
  expect(others.map((other) => other.name)).toEqual(["first", "second", "third"].filter((other) => other !== wins));
  for (const { reason } of others) expect(reason).toMatch(/^slower here: \d\.00 ms a step, .+ takes 3\.00$/);
});

test("one that does not start, or fails its step, is named with its words", async () => {
  const { chosen, there } = field({ gpu: "broken", other: NaN, processor: 9 });
  expect(await chosen).toMatchObject({
    name: "processor",
    others: [
      { name: "gpu", reason: "no driver" },
      { name: "other", reason: "out of memory" },
    ],
  });
  expect([...there]).toEqual(["processor"]);
});

test("where none works, all reasons are told", async () => {
  await expect(field({ gpu: "broken", other: NaN }).chosen).rejects.toThrow("gpu: no driver; other: out of memory");
});
