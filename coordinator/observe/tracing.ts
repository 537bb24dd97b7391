/**
 * @file OpenTelemetry traces of rounds, sent by OTLP over HTTP: a span for each round, below it one for each lease and one for the
 * commit; a worker that is traced too continues the lease's. Off unless the standard variable OTEL_EXPORTER_OTLP_ENDPOINT (or
 * OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names a collector; then the SDK's other variables count as well.
 */
import type { Span } from "@opentelemetry/api";
import type { Lease, LeaseId, Version, WorkerId } from "../../shared/wire/protocol.ts";

export type RunTrace = {
  /** @returns W3C traceparent of the lease's span. */
  readonly leaseGranted: (worker: WorkerId, lease: Lease) => string;
  readonly leaseEnded: (lease: LeaseId, outcome: string) => void;
  readonly roundCommitted: (round: { version: Version; tokens: number; lossSum: number; beganMs: number }) => void;
  /** Sends what is left; bounded by the exporter's own timeout. */
  readonly close: () => Promise<void>;
};

/** Null when no collector is named: then nothing of OpenTelemetry is even loaded. */
export async function openTracing(run: string, environment: NodeJS.ProcessEnv): Promise<RunTrace | null> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: all, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: traces } = environment;
  if ((all ?? "") === "" && (traces ?? "") === "") return null;
  const [{ ROOT_CONTEXT, trace }, { TracerProvider, BatchSpanProcessor }, { OTLPTraceExporter }, resources] =
    await Promise.all([
      import("@opentelemetry/api"),
      import("@opentelemetry/sdk-trace"),
      import("@opentelemetry/exporter-trace-otlp-http"),
      import("@opentelemetry/resources"),
    ]);
  const provider = new TracerProvider({
    resource: resources.resourceFromAttributes({ "service.name": "manyhands-coordinator", "manyhands.run": run }),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  const tracer = provider.getTracer("manyhands");
  let round: { readonly version: Version; readonly span: Span } | null = null;
  const leases = new Map<LeaseId, Span>();

  /** The round that makes version + 1 begins with its first lease. */
  function roundOf(version: Version): Span {
    if (round?.version !== version) {
      round?.span.end();
      const span = tracer.startSpan("round", { root: true, attributes: { "manyhands.version": version } });
      round = { version, span };
    }
    return round.span;
  }

  return {
    leaseGranted(worker, { lease, base, kind, units }) {
      const attributes = { "manyhands.worker": worker, "manyhands.kind": kind, "manyhands.units": units };
      const span = tracer.startSpan("lease", { attributes }, trace.setSpan(ROOT_CONTEXT, roundOf(base)));
      leases.set(lease, span);
      const { traceId, spanId, traceFlags } = span.spanContext();
      return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
    },
    leaseEnded(lease, outcome) {
      leases.get(lease)?.setAttribute("manyhands.outcome", outcome).end();
      leases.delete(lease);
    },
    roundCommitted({ version, tokens, lossSum, beganMs }) {
      const span = roundOf(version - 1);
      tracer.startSpan("commit", { startTime: beganMs }, trace.setSpan(ROOT_CONTEXT, span)).end();
      span.setAttributes({ "manyhands.tokens": tokens, "manyhands.loss": lossSum / tokens }).end();
      round = null;
    },
    close() {
      // A span that has not ended is not sent.
      for (const span of leases.values()) span.end();
      round?.span.end();
      return provider.shutdown();
    },
  };
}
