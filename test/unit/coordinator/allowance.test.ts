import { expect, test } from "vitest";
import {
  allowLease,
  allowReleases,
  initialAllowance,
  spendBytes,
  spendMessage,
} from "../../../coordinator/edge/allowance.ts";
import type { Allowance, Spending } from "../../../coordinator/edge/allowance.ts";

const rates = { messages: { perSecond: 1, burst: 10 }, bytes: { perSecond: 100, burst: 1000 } };
const fresh = (): Allowance => initialAllowance(rates, 0);

/** How often the same message is taken at one instant. */
function taken(allowance: Allowance, spending: (index: number) => Spending): number {
  let after: Allowance = allowance;
  for (let count = 0; count < 10_000; count++) {
    const next = spendMessage(after, spending(count), rates, 0);
    if (next === null) return count;
    after = next.allowance;
  }
  return Infinity;
}

test("without leases a connection has its burst of messages, of `ready` a fifth of it", () => {
  expect(taken(fresh(), () => ({ type: "other" }))).toBe(10);
  expect(taken(fresh(), () => ({ type: "pull" }))).toBe(10);
  expect(taken(fresh(), () => ({ type: "result", lease: 1, units: 1 }))).toBe(10);
  expect(taken(fresh(), (index) => ({ type: "release", lease: index }))).toBe(10);
  expect(taken(fresh(), () => ({ type: "ready" }))).toBe(2);
});

test("each unit lent may be returned once beside them, each answer pulled for once, each update gives back two leases", () => {
  const lent = allowReleases(allowLease(fresh(), 7, 100, 50));
  expect(taken(lent, () => ({ type: "result", lease: 7, units: 1 }))).toBe(100 + 10);
  expect(taken(lent, () => ({ type: "result", lease: 7, units: 30 }))).toBe(3 + 10);
  expect(taken(lent, () => ({ type: "result", lease: 8, units: 1 }))).toBe(10);
  expect(taken(lent, () => ({ type: "pull" }))).toBe(1 + 10);
  expect(taken(lent, (index) => ({ type: "release", lease: index }))).toBe(2 + 10);
});

test("pulling and giving back over and over earns nothing", () => {
  let allowance: Allowance | null = fresh();
  let cycles = 0;
  for (; allowance !== null && cycles < 1000; cycles++) {
    const pulled: Allowance | undefined = spendMessage(allowance, { type: "pull" }, rates, 0)?.allowance;
    const leased: Allowance | undefined = pulled && allowLease(pulled, cycles, 1000, 1_000_000);
    const released: ReturnType<typeof spendMessage> | undefined =
      leased && spendMessage(leased, { type: "release", lease: cycles }, rates, 0);
    if (released) expect(released.allowance.lentBytes).toBe(0);
    allowance = released?.allowance ?? null;
  }
  expect(cycles).toBeLessThan(12);
});

test("bytes: those of the units lent, then a burst, then a trickle", () => {
  const lent = allowLease(fresh(), 1, 3, 500);
  const after = spendBytes(lent, 2500, rates, 0);
  expect(after).not.toBeNull();
  expect(spendBytes(after!, 1, rates, 0)).toBeNull();
  expect(spendBytes(after!, 100, rates, 1000)).not.toBeNull();
  expect(spendBytes(lent, 2501, rates, 0)).toBeNull();
  expect(spendBytes(fresh(), 1001, rates, 0)).toBeNull();
});

test("what a result did not need, folded or short, is left for no other use", () => {
  const lent = allowLease(fresh(), 1, 4, 500);
  const sent = spendBytes(lent, 500, rates, 0)!;
  const folded = spendMessage(sent, { type: "result", lease: 1, units: 4 }, rates, 0)!.allowance;
  expect(folded.lentBytes).toBe(0);
  expect(folded.lent.size).toBe(0);
  const short = spendMessage(spendBytes(lent, 20, rates, 0)!, { type: "result", lease: 1, units: 1 }, rates, 0);
  expect(short?.allowance.lentBytes).toBe(3 * 500);
});

test("an honest worker that returns a hundred thousand units in full size never touches its buckets", () => {
  const framing = 14;
  let allowance = fresh();
  for (let lease = 0; lease < 10_000; lease++) {
    allowance = spendMessage(allowLease(allowance, lease, 10, 500), { type: "pull" }, rates, 0)!.allowance;
    for (let unit = 0; unit < 10; unit++) {
      const arrived = spendBytes(allowance, 486 + framing, rates, 0);
      allowance = spendMessage(arrived!, { type: "result", lease, units: 1 }, rates, 0)!.allowance;
    }
  }
  expect(allowance.messages.tokens).toBe(rates.messages.burst);
  expect(allowance.bytes.tokens).toBe(rates.bytes.burst);
});

test("[I5] leases that are never returned are forgotten, oldest first, with their bytes", () => {
  let allowance = fresh();
  for (let lease = 0; lease < 1000; lease++) allowance = allowLease(allowance, lease, 2, 500);
  expect(allowance.lent.size).toBe(8);
  expect(allowance.lentBytes).toBe(8 * 2 * 500);
  expect(allowance.pulls).toBe(8);
});
