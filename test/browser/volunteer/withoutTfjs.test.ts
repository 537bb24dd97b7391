/** @file A tab that trains on WebGPU, and what it downloads for that: real coordinator, real Chromium. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterEach, beforeEach, expect } from "vitest";
import { GRAPH_INDEX_FILE, GRAPHS_PATH, parseGraphIndex, type ServedGraph } from "../../../shared/engine/graphIndex.ts";
import { browserTest, launchChromium } from "../../support/chromium.ts";
import { type CoordinatorProcess, smallCorpus, smallRun, startCoordinator } from "../../support/coordinatorProcess.ts";

let dir: string;
let browser: Browser | null = null;
let coordinator: CoordinatorProcess | null = null;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-graphs-"));
});

afterEach(async () => {
  await browser?.close();
  coordinator?.child.kill("SIGTERM");
  await coordinator?.exit;
  [browser, coordinator] = [null, null];
  rmSync(dir, { recursive: true, force: true });
});

type Options = {
  readonly flags?: readonly string[];
  readonly spoil?: (text: string) => string;
  readonly named?: boolean;
};

type Visit = {
  /** Paths of everything that was asked for. */
  readonly asked: readonly string[];
  readonly warnings: readonly string[];
  readonly fallbacks: readonly unknown[];
};

/**
 * Joins a run until the first gradient and the first evaluation are taken in. `spoil` changes what is served as a graph, on its
 * way or, with `named`, as if the coordinator had made it.
 */
async function train({ flags = [], spoil, named = false }: Options = {}): Promise<Visit> {
  const run = ["--run", "tab", ...smallRun(dir, smallCorpus(dir)), "--steps", "100000", "--workers", "0"];
  coordinator = await startCoordinator([...run, "--evaluate-every", "1", ...flags]);
  browser = await launchChromium();
  const context = await browser.newContext();
  const asked: string[] = [];
  const warnings: string[] = [];
  context.on("request", (request) => asked.push(new URL(request.url()).pathname));
  context.on("console", (message) => {
    if (message.type() === "warning" || message.type() === "error") warnings.push(message.text());
  });
  if (spoil !== undefined) {
    const graphsUrl = coordinator.url + GRAPHS_PATH;
    const index = parseGraphIndex(await (await fetch(graphsUrl + GRAPH_INDEX_FILE)).json());
    const spoiled = new Map<string, string>();
    const graphs: ServedGraph[] = [];
    for (const graph of index.graphs) {
      const text = spoil(await (await fetch(`${graphsUrl}${graph.sha256}.json`)).text());
      const sha256 = named ? createHash("sha256").update(text).digest("hex") : graph.sha256;
      graphs.push({ ...graph, sha256 });
      spoiled.set(`${sha256}.json`, text);
    }
    await context.route(`${graphsUrl}*`, (route) => {
      const file = route.request().url().slice(graphsUrl.length);
      return file === GRAPH_INDEX_FILE
        ? route.fulfill({ json: { ...index, graphs } })
        : route.fulfill({ contentType: "application/json", body: spoiled.get(file) ?? "" });
    });
  }
  const page = await context.newPage();
  await page.goto(`${coordinator.url}/?join`);
  const status = await coordinator.until(
    ({ version, validationLoss }) => version >= 1 && validationLoss !== null,
    240_000,
  );
  const [worker] = status.workers;
  expect(worker?.backend).toBe("webgpu");
  return { asked, warnings, fallbacks: worker?.fallbacks ?? [] };
}

/** Names of Vite's chunks with tfjs in them: its core and backends. */
const TFJS = /\/assets\/(tfjs|dist|stepGraph|webgpu|webgl|wasm|cpu|selfCheck)-/;

browserTest("with the steps that the coordinator traced, a tab trains and evaluates without tfjs", async () => {
  const { asked, warnings, fallbacks } = await train();
  expect(fallbacks).toEqual([]);
  expect(warnings).toEqual([]);
  expect(asked.filter((path) => path.startsWith(GRAPHS_PATH)).length).toBe(3);
  expect(asked.some((path) => path.startsWith("/assets/compiled-"))).toBe(true);
  expect(asked.filter((path) => TFJS.test(path))).toEqual([]);
});

browserTest(
  "a graph that is not what its name says is refused, with a warning, and the tab traces the model",
  async () => {
    const { asked, warnings, fallbacks } = await train({ spoil: (text) => text.replace("ManyhandsGelu", "Identity") });
    expect(fallbacks).toEqual([]);
    expect(warnings.join("\n")).toContain("SHA-256");
    expect(asked.filter((path) => TFJS.test(path))).not.toEqual([]);
  },
);

browserTest(
  "[P17] a graph that computes something else is not admitted: the tab says so, and goes on op by op",
  async () => {
    const { fallbacks } = await train({ named: true, spoil: (text) => text.replace('"ManyhandsGelu"', '"Identity"') });
    expect(fallbacks).toMatchObject([
      { backend: "webgpu", reason: expect.stringMatching(/^compiled step: on a known batch the loss is off/) },
    ]);
  },
);

browserTest("where no coordinator examines engines, the tab does it itself, with tfjs", async () => {
  const { asked, fallbacks } = await train({ flags: ["--no-admission"] });
  expect(fallbacks).toEqual([]);
  expect(asked.some((path) => path.startsWith("/assets/selfCheck-"))).toBe(true);
});
