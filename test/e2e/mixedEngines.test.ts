/** @file One run on three engines: ONNX Runtime in Node, the compiled step on Dawn in Node, and in Chromium; one θ on all. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";
import { gpuTest } from "../support/dawn.ts";

/** Rounds of very many small units: a software adapter takes a hundred times as long for one as the processor itself. */
const ROUNDS = ["--batch", "4096", "--unit", "4", "--steps", "100000", "--workers", "1", "--evaluate-every", "1000"];

/** Each unit on its own, as block integers: GPUs encode them themselves. */
const TRAVEL = ["--codec", "i8", "--strict"];

gpuTest("[I3] ONNX Runtime, Dawn and Chromium train one run, and θ is the same on all", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-e2e-"));
  const coordinator = await startCoordinator([
    "--run",
    "mixed",
    ...smallRun(dir, smallCorpus(dir)),
    ...ROUNDS,
    ...TRAVEL,
  ]);
  const worker = resolve(import.meta.dirname, "../../worker-node/main.ts");
  const flags = ["--url", coordinator.url, "--engine", "webgpu", "--name", "dawn"];
  const dawn = spawn(process.execPath, [worker, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [dawn.stdout, dawn.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    await page.goto(`${coordinator.url}/?join&name=tab`);
    const status = await coordinator.until(
      ({ workers }) => workers.length === 3 && workers.every(({ tokens }) => tokens > 0),
      500_000,
    );
    expect(
      status.workers.map(({ kind, backend }) => `${kind} ${backend}`).toSorted((a, b) => a.localeCompare(b)),
    ).toEqual(["browser webgpu", "node onnx", "node webgpu"]);
    for (const { fallbacks } of status.workers) expect(fallbacks).toEqual([]);
    // The θ hash travels with each result: who differs is refused.
    const later = await coordinator.until(({ version }) => version >= status.version + 2, 300_000);
    expect(later.refusals["wrong-hash"]).toBeUndefined();
    expect(later.refusals["not-finite"]).toBeUndefined();
    expect(later.trainLoss).toBeLessThan(4.5);
  } catch (error) {
    throw new Error(`${String(error)}\nthe worker on Dawn said:\n${output}`, { cause: error });
  } finally {
    await browser.close();
    dawn.kill("SIGTERM");
    await once(dawn, "exit");
    coordinator.child.kill("SIGTERM");
    await coordinator.exit;
    rmSync(dir, { recursive: true, force: true });
  }
});
