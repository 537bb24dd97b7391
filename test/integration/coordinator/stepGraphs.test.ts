/** @file The traced steps that a coordinator serves to browsers: the real program, asked over HTTP. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseManifest } from "../../../shared/data/manifest.ts";
import { parseGraph } from "../../../shared/engine/graphFile.ts";
import { parseGraphIndex } from "../../../shared/engine/graphIndex.ts";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { type CoordinatorProcess, smallCorpus, smallRun, startCoordinator } from "../../support/coordinatorProcess.ts";

let dir: string;
let coordinator: CoordinatorProcess;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-graphs-"));
  const flags = ["--run", "graphs", ...smallRun(dir, smallCorpus(dir)), "--workers", "0"];
  coordinator = await startCoordinator(flags);
});

afterEach(async () => {
  coordinator.child.kill("SIGTERM");
  await coordinator.exit;
  rmSync(dir, { recursive: true, force: true });
});

test("the steps of the run's units, traced once, named by their content", async () => {
  const response = await fetch(`${coordinator.url}/graphs/index.json`);
  expect(response.headers.get("Cache-Control")).toBe("no-store");
  const { examined, graphs } = parseGraphIndex(await response.json());
  expect(examined).toBe(true);
  expect(graphs.map(({ kind, batchSize }) => [kind, batchSize])).toEqual([
    ["gradient", 2],
    ["loss", 8],
  ]);
  const [corpus = ""] = readdirSync(join(dir, "data"));
  const { tokenizer } = parseManifest(JSON.parse(readFileSync(join(dir, "data", corpus, "manifest.json"), "utf8")));
  const size = { layers: 1, heads: 2, width: 32, context: 16, bias: false, dropout: 0 };
  const spec: ModelSpec = { kind: "gpt", ...size, vocabulary: tokenizer.vocabulary };
  const layout = layoutOf(gptTensors(spec));
  for (const { kind, batchSize, sha256 } of graphs) {
    const file = await fetch(`${coordinator.url}/graphs/${sha256}.json`);
    expect(file.headers.get("Cache-Control")).toContain("immutable");
    const text = await file.text();
    expect(createHash("sha256").update(text).digest("hex")).toBe(sha256);
    expect(parseGraph(text, { kind, spec, layout, batchSize })).toEqual(stepGraph(kind, spec, layout, batchSize));
  }
  expect((await fetch(`${coordinator.url}/graphs/${"0".repeat(64)}.json`)).status).toBe(404);
});
