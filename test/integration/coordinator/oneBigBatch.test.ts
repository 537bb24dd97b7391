import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openOptimizer } from "../../../coordinator/optimizer/optimize.ts";
import { journalPath, readJournal } from "../../../coordinator/store/journal.ts";
import { encoded } from "../../../shared/codec/codec.ts";
import type { Batch, Engine } from "../../../shared/engine/engine.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { initialParams } from "../../../shared/model/init.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { createNodeEngine } from "../../../worker-node/engine.ts";
import { randomBatch, relativeL2 } from "../../support/engineCases.ts";

const spec: ModelSpec = { kind: "gpt", layers: 2, heads: 2, width: 32, context: 16, vocabulary: 37, bias: true, dropout: 0.1 }; // prettier-ignore
const layout = layoutOf(gptTensors(spec));
const params = initialParams(spec, layout, 3);
const SAMPLES = 24;
const UNIT = 3;
const UNITS = SAMPLES / UNIT;
const batch = randomBatch(spec, SAMPLES, 11);

let engine: Engine;
let dir: string;
let bigBatch: Float32Array;
let tokens: number;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-one-"));
  ({ engine } = await createNodeEngine({ spec, layout, threads: 1, preference: "onnx" }));
  await engine.load(params);
  bigBatch = new Float32Array(layout.length);
  const loss = await engine.gradient(batch, bigBatch);
  tokens = loss.tokens;
  for (let i = 0; i < bigBatch.length; i++) bigBatch[i]! /= tokens;
});
afterAll(async () => {
  await engine.dispose();
  rmSync(dir, { recursive: true, force: true });
});

function unitBatch(unit: number): Batch {
  const [from, to] = [unit * UNIT, (unit + 1) * UNIT];
  const { dropout, inputs, targets } = batch;
  return {
    batchSize: UNIT,
    inputs: inputs.slice(from * spec.context, to * spec.context),
    targets: targets.slice(from * spec.context, to * spec.context),
    ...(dropout === undefined ? {} : { dropout: { ...dropout, samples: dropout.samples.slice(from, to) } }),
  };
}

/** What the optimizer is fed when `workers` workers share the units, in turn, and fold what they have when told to. */
async function mergedGradient(workers: number, folded: boolean): Promise<Float32Array> {
  const folder = join(dir, `${workers}-${folded}`);
  const { optimizer } = await openOptimizer({
    ...{ dir: folder, layout, codec: "f32", threads: 2, units: UNITS, maxWaiting: UNITS },
    optimizer: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 },
    ...{ initial: () => params, until: 0, metadata: {}, keep: 2, sync: false },
  });
  const share = Math.ceil(UNITS / workers);
  const gradient = new Float32Array(layout.length);
  // The last worker delivers first.
  for (let worker = workers - 1; worker >= 0; worker--) {
    const units = Array.from({ length: share }, (_, index) => worker * share + index).filter((unit) => unit < UNITS);
    const sum = new Float32Array(layout.length);
    for (const unit of units) {
      await engine.gradient(unitBatch(unit), gradient);
      if (folded) gradient.forEach((value, index) => (sum[index]! += value));
      else await optimizer.receive({ firstUnit: unit, units: 1, payload: encoded("f32", gradient) });
    }
    const first = units[0];
    if (folded && first !== undefined) {
      await optimizer.receive({ firstUnit: first, units: units.length, payload: encoded("f32", sum) });
    }
  }
  await optimizer.step({ version: 1, tokens, learningRate: 1e-3 });
  await optimizer.close();
  for await (const { gradient: merged } of readJournal(journalPath(folder, 0), layout.length)) return merged.slice();
  throw new Error("the journal is empty");
}

describe("[I1] the merged gradient is that of one big batch", () => {
  for (const folded of [false, true]) {
    test.each([1, 2, 3, 8])(`%i workers, ${folded ? "folded" : "strict"}`, async (workers) => {
      // The order of f32 additions differs, nothing else: measured 2e-7.
      expect(relativeL2(await mergedGradient(workers, folded), bigBatch)).toBeLessThan(1e-5);
    });
  }
  test("a mean of means would not be: targets that do not count are spread unevenly", async () => {
    const means = new Float32Array(layout.length);
    const gradient = new Float32Array(layout.length);
    for (let unit = 0; unit < UNITS; unit++) {
      const loss = await engine.gradient(unitBatch(unit), gradient);
      gradient.forEach((value, index) => (means[index]! += value / loss.tokens / UNITS));
    }
    expect(relativeL2(means, bigBatch)).toBeGreaterThan(1e-5);
  });
});
