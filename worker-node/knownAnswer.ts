/**
 * @file What the coordinator expects of an engine before it admits a worker, as a program: it computes the examination on this
 * machine's processor, not on a driver that might need the examination itself, and the norm that the first unit's gradient has at θ_0, by which the first round's are judged.
 */
import { open, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { examine, examinationSamples } from "../shared/engine/examination.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { initialParams } from "../shared/model/init.ts";
import { layoutOf } from "../shared/numerics/layout.ts";
import { squaredNormOf } from "../shared/numerics/norm.ts";
import type { RunDescription } from "../shared/wire/protocol.ts";
import { createTask } from "../shared/worker/task.ts";
import { createNodeEngine } from "./engine.ts";

const [description = "", corpusDir = ""] = process.argv.slice(2);
const run = JSON.parse(description) as RunDescription;
const layout = layoutOf(gptTensors(run.model));
const [{ engine }, task] = await Promise.all([
  createNodeEngine({ spec: run.model, layout, threads: 1, preference: "auto", gpu: false }),
  createTask(run, readCorpus),
]);
const gradient = new Float32Array(layout.length);
const nowMs = (): number => performance.now();
const batchSize = examinationSamples(run.unit);
const { answer } = await examine({ engine, spec: run.model, layout, batchSize, gradient, nowMs });
await engine.load(initialParams(run.model, layout, run.seed));
const batch = await task.trainingBatch({ origin: 0, samples: run.batch, unit: 0, version: 0 });
const { tokens } = await engine.gradient(batch, gradient);
const firstUnit = { tokens, norm: Math.sqrt(squaredNormOf(gradient, 0, layout.length)) };
process.stdout.write(JSON.stringify({ ...answer, sketch: [...answer.sketch], firstUnit }));
await engine.dispose();

/** A file of the corpus by its path on the coordinator's HTTP side. */
async function readCorpus(path: string, range?: { start: number; end: number }): Promise<Uint8Array> {
  const file = join(corpusDir, basename(path));
  if (range === undefined) return readFile(file);
  const handle = await open(file);
  try {
    const bytes = new Uint8Array(range.end - range.start);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, range.start);
    return bytes.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
