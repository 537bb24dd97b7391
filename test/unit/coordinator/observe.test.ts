import { expect, test } from "vitest";
import { createMetrics } from "../../../coordinator/observe/metrics.ts";
import { createObserver } from "../../../coordinator/observe/observe.ts";

const lease = { lease: 1, kind: "train", base: 4, origin: 0, samples: 8, firstUnit: 0, units: 2, deadlineMs: 1000 } as const; // prettier-ignore
const result = { lease: 1, base: 4, hash: "", firstUnit: 0, units: 1, tokens: 8, lossSum: 1, computeMs: 200 };
const round = { version: 5, tokens: 8, lossSum: 1, beganMs: 0 };

function setUp() {
  const metrics = createMetrics();
  let nowMs = 0;
  const observer = createObserver(metrics, null, () => nowMs);
  const text = async (): Promise<string> => metrics.registry.metrics();
  return { observer, text, at: (ms: number) => void (nowMs = ms) };
}

test("a lease is as old as its last result, and what its engine did not take is transfer", async () => {
  const { observer, text, at } = setUp();
  observer.granted("w", lease);
  at(300);
  observer.returned("train", result);
  expect(await text()).toContain('manyhands_leases_total{outcome="granted"} 1');
  expect(await text()).not.toContain('outcome="returned"');
  at(1000);
  observer.returned("train", { ...result, firstUnit: 1 });
  expect(await text()).toContain('manyhands_leases_total{outcome="returned"} 1');
  expect(await text()).toContain('manyhands_lease_seconds_sum{outcome="returned"} 1\n');
  expect(await text()).toContain("manyhands_transfer_seconds_sum 0.6\n");
  expect(await text()).toContain('manyhands_compute_seconds_sum{kind="train"} 0.4\n');
});

test("a lease that was given back, and one that nobody returned before the commit, are counted as such, once", async () => {
  const { observer, text, at } = setUp();
  observer.granted("w", lease);
  observer.granted("w", { ...lease, lease: 2 });
  observer.granted("w", { ...lease, lease: 3, base: 5 });
  at(2000);
  observer.released(1);
  observer.released(1);
  observer.committed(round);
  // Too late, or never heard of: nothing that could grow.
  observer.returned("train", { ...result, lease: 2, units: 2 });
  observer.returned("train", { ...result, lease: 99, units: 2 });
  expect(await text()).toContain('manyhands_leases_total{outcome="released"} 1');
  expect(await text()).toContain('manyhands_leases_total{outcome="lapsed"} 1');
  expect(await text()).not.toContain('outcome="returned"');
});
