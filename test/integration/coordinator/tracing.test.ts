/** @file Traces of real processes, received by an OTLP collector that keeps what it is sent. */
import { mkdtempSync, rmSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { runCoordinator, smallCorpus, smallRun } from "../../support/coordinatorProcess.ts";

type Span = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
};
type Sent = {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly { key: string; value: { stringValue?: string } }[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
};

const STEPS = 6;

afterEach(() => void vi.unstubAllEnvs());

test("a round is one trace: leases below it, the workers' own spans below those, and nothing without a collector", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-traces-"));
  const spans: (Span & { service: string })[] = [];
  const collector = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString()) as Sent;
      for (const { resource, scopeSpans } of resourceSpans) {
        const service = resource.attributes.find(({ key }) => key === "service.name")?.value.stringValue ?? "";
        spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service }))));
      }
      response.writeHead(200, { "Content-Type": "application/json" }).end("{}");
    });
  }).listen(0, "127.0.0.1");
  await once(collector, "listening");
  try {
    const flags = ["--run", "traced", ...smallRun(dir, smallCorpus(dir)), "--steps", String(STEPS), "--workers", "2"];
    const untraced = await runCoordinator([...flags, "--run", "untraced", "--steps", "2"]);
    expect(untraced.code, untraced.output).toBe(0);
    expect(spans).toEqual([]);

    vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", `http://127.0.0.1:${(collector.address() as AddressInfo).port}`);
    vi.stubEnv("OTEL_BSP_SCHEDULE_DELAY", "100");
    const { code, output } = await runCoordinator(flags);
    expect(code, output).toBe(0);
  } finally {
    collector.close();
    rmSync(dir, { recursive: true, force: true });
  }
  const named = (name: string): typeof spans => spans.filter((span) => span.name === name);
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  expect(named("commit")).toHaveLength(STEPS);
  expect(named("round").length).toBeGreaterThanOrEqual(STEPS);
  expect(new Set(named("round").map(({ traceId }) => traceId)).size).toBe(named("round").length);
  expect(named("lease").length).toBeGreaterThanOrEqual(STEPS);
  for (const { parentSpanId = "", traceId } of [...named("lease"), ...named("commit")]) {
    expect(byId.get(parentSpanId)).toMatchObject({ name: "round", traceId, service: "manyhands-coordinator" });
  }
  expect(named("work").length).toBeGreaterThan(0);
  for (const { parentSpanId = "", traceId, service } of named("work")) {
    expect(service).toBe("manyhands-worker");
    expect(byId.get(parentSpanId)).toMatchObject({ name: "lease", traceId });
  }
});
