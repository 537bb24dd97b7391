/** @file What a run shows of its rounds and leases to whoever operates it: metrics always, traces when they are asked for. */
import type { Lease, LeaseId, Version, WorkerId, WorkResult } from "../../shared/wire/protocol.ts";
import type { Metrics } from "./metrics.ts";
import type { RunTrace } from "./tracing.ts";

export type Observer = {
  /** @returns the trace context that travels with the lease (W3C traceparent), when there is one. */
  readonly granted: (worker: WorkerId, lease: Lease) => string | undefined;
  readonly returned: (kind: Lease["kind"], result: WorkResult) => void;
  readonly released: (lease: LeaseId) => void;
  readonly merged: (sinceMs: number) => void;
  /** Leases of this version and before it are over, whatever became of them. */
  readonly committed: (round: { version: Version; tokens: number; lossSum: number; beganMs: number }) => void;
};

type Open = {
  readonly base: Version;
  readonly kind: Lease["kind"];
  readonly grantedMs: number;
  unitsLeft: number;
  computeMs: number;
};

export function createObserver(metrics: Metrics, trace: RunTrace | null, nowMs: () => number): Observer {
  /** Of the round under way: emptied at each commit, so that it does not grow with leases that nobody returned. */
  const open = new Map<LeaseId, Open>();

  function close(id: LeaseId, lease: Open, outcome: "returned" | "released" | "lapsed"): void {
    open.delete(id);
    metrics.leases.inc({ outcome });
    const ageMs = nowMs() - lease.grantedMs;
    metrics.leaseSeconds.observe({ outcome }, ageMs / 1000);
    if (outcome === "returned") metrics.transferSeconds.observe(Math.max(0, ageMs - lease.computeMs) / 1000);
    trace?.leaseEnded(id, outcome);
  }

  return {
    granted(worker, lease) {
      metrics.leases.inc({ outcome: "granted" });
      const { base, kind, units } = lease;
      open.set(lease.lease, { base, kind, grantedMs: nowMs(), unitsLeft: units, computeMs: 0 });
      return trace?.leaseGranted(worker, lease);
    },
    returned(kind, { lease: id, units, computeMs }) {
      metrics.computeSeconds.observe({ kind }, computeMs / 1000);
      const lease = open.get(id);
      if (lease === undefined) return;
      lease.unitsLeft -= units;
      lease.computeMs += computeMs;
      if (lease.unitsLeft <= 0) close(id, lease, "returned");
    },
    released(id) {
      const lease = open.get(id);
      if (lease !== undefined) close(id, lease, "released");
    },
    merged: (sinceMs) => metrics.mergeSeconds.observe((nowMs() - sinceMs) / 1000),
    committed(round) {
      for (const [id, lease] of open) if (lease.base < round.version) close(id, lease, "lapsed");
      trace?.roundCommitted(round);
    },
  };
}
