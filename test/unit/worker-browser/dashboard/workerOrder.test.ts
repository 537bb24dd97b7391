import { expect, test } from "vitest";
import type { WorkerStatus } from "../../../../shared/wire/status.ts";
import { inOrder, type Order, type Sort } from "../../../../worker-browser/dashboard/workerOrder.ts";

const fastest: Sort = { key: "tokensPerSecond", down: true };

function worker(id: string, tokensPerSecond: number, change: Partial<WorkerStatus> = {}): WorkerStatus {
  return { worker: id, name: id.toUpperCase(), kind: "node", device: "", state: "ready", backend: "onnx", fallbacks: [], tokens: 0, tokensPerSecond, share: 0, refused: 0, waitingReason: "", behind: 0, leases: 1, strikes: 0, ...change }; // prettier-ignore
}

/** `isHeld`: somebody is about to press a row's button. */
function order(known: Order | null, all: readonly WorkerStatus[], nowMs: number, { sort = fastest, filter = "", isHeld = false } = {}): Order {
  return inOrder(known, all, { filter, sort, nowMs, isHeld });
} // prettier-ignore

function ids({ workers }: Order): string[] {
  return workers.map((one) => one.worker);
}

const first = order(null, [worker("a", 1), worker("b", 3), worker("c", 2)], 0);

test("sorted by what was asked for; equals by their id, either way round", () => {
  expect(ids(first)).toEqual(["b", "c", "a"]);
  const equals = [worker("c", 1), worker("a", 1), worker("b", 2)];
  expect(ids(order(null, equals, 0))).toEqual(["b", "a", "c"]);
  expect(ids(order(null, equals, 0, { sort: { key: "tokensPerSecond", down: false } }))).toEqual(["a", "c", "b"]);
  expect(ids(order(null, [worker("a", 1, { name: "Zoe" }), worker("b", 2, { name: "ada" })], 0, { sort: { key: "name", down: false } }))).toEqual(["b", "a"]); // prettier-ignore
  expect(ids(order(null, [worker("a", 1, { behind: 2 }), worker("b", 2, { behind: 10 })], 0, { sort: { key: "behind", down: true } }))).toEqual(["b", "a"]); // prettier-ignore
});

test("rows keep their places for ten seconds while their figures change, and are sorted then", () => {
  const slower = [worker("a", 9), worker("b", 1), worker("c", 2)];
  const held = order(first, slower, 9999);
  expect(held.workers).toEqual([slower[1], slower[2], slower[0]]);
  expect(ids(order(held, slower, 10_000))).toEqual(["a", "c", "b"]);
});

test("no row moves while a button of one is about to be pressed; they are sorted when it is let go", () => {
  const all = [worker("a", 9), worker("b", 1), worker("c", 2)];
  const held = order(first, all, 60_000, { isHeld: true });
  expect(ids(held)).toEqual(["b", "c", "a"]);
  expect(ids(order(held, all, 60_001))).toEqual(["a", "c", "b"]);
});

test("who left is gone at once, who joined is there at once, below the others", () => {
  const later = order(first, [worker("a", 1), worker("c", 2), worker("d", 50), worker("e", 60)], 1000);
  expect(ids(later)).toEqual(["c", "a", "e", "d"]);
  expect(ids(order(later, later.workers, 10_000))).toEqual(["e", "d", "c", "a"]);
});

test("another sort or filter is there at once; the filter looks at name, id, machine and backend", () => {
  const all = [worker("a", 1, { device: "a Toaster, 1 core" }), worker("b", 3, { backend: "webgpu" }), worker("c", 2)];
  expect(ids(order(first, all, 1, { sort: { key: "name", down: false } }))).toEqual(["a", "b", "c"]);
  const find = (filter: string): string[] => ids(order(first, all, 1, { filter }));
  expect([find("toaster"), find("WebGPU"), find("onnx "), find(" c "), find("A")]).toEqual([["a"], ["b"], ["c", "a"], ["c", "a"], ["a"]]); // prettier-ignore
  expect(find("nobody")).toEqual([]);
});
