/**
 * @file OpenTelemetry traces of a worker's leases, below the spans of the coordinator whose context travels with a lease. Off
 * unless OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names a collector.
 */
import type { Span } from "@opentelemetry/api";
import type { ComputeCommand, ComputeEvent } from "../shared/worker/commands.ts";
import type { LeaseId } from "../shared/wire/protocol.ts";

export type WorkerTrace = {
  readonly commanded: (command: ComputeCommand) => void;
  readonly computed: (event: ComputeEvent) => void;
  readonly close: () => Promise<void>;
};

/** Leases whose end was never told, because the connection went away, are let go beyond this many. */
const MAX_OPEN = 64;

export async function openTracing(name: string, environment: NodeJS.ProcessEnv): Promise<WorkerTrace | null> {
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
    resource: resources.resourceFromAttributes({ "service.name": "manyhands-worker", "service.instance.id": name }),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  const tracer = provider.getTracer("manyhands");
  const open = new Map<LeaseId, { readonly span: Span; computeMs: number }>();
  return {
    commanded(command) {
      if (command.type !== "work" || command.lease.traceparent === undefined) return;
      const [, traceId = "", spanId = "", flags = "00"] = command.lease.traceparent.split("-");
      const parent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
      const { lease, kind, units } = command.lease;
      const attributes = { "manyhands.kind": kind, "manyhands.units": units };
      const context = trace.setSpanContext(ROOT_CONTEXT, parent);
      open.set(lease, { span: tracer.startSpan("work", { attributes }, context), computeMs: 0 });
      for (const [oldest, { span }] of open) {
        if (open.size <= MAX_OPEN) break;
        span.end();
        open.delete(oldest);
      }
    },
    computed(event) {
      if (event.type !== "contribution" && event.type !== "evaluation" && event.type !== "leaseDone") return;
      const entry = open.get(event.lease);
      if (entry === undefined) return;
      if (event.type === "leaseDone") {
        open.delete(event.lease);
        entry.span.setAttributes({ "manyhands.compute_ms": entry.computeMs, "manyhands.dropped": event.dropped }).end();
        return;
      }
      entry.computeMs += event.computeMs;
      entry.span.addEvent("result", { "manyhands.first_unit": event.firstUnit, "manyhands.compute_ms": event.computeMs }); // prettier-ignore
    },
    close: () => provider.shutdown(),
  };
}
