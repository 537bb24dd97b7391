/** @file The undisturbed run, from first principles: every unit once, in order, on one machine, without any protocol. */
import type { EvaluationRow, RoundRow } from "../../../coordinator/store/ledger.ts";
import { encoded } from "../../../shared/codec/codec.ts";
import { examine } from "../../../shared/engine/examination.ts";
import type { Answer } from "../../../shared/engine/examination.ts";
import { learningRateAt } from "../../../shared/numerics/schedule.ts";
import { createTask } from "../../../shared/worker/task.ts";
import { emptyDisk, openSimOptimizer } from "./optimizer.ts";
import { createPureEngine, gradientOf, lossOf } from "./world.ts";
import type { World } from "./world.ts";

export type Reference = {
  /** Of the examination. */
  readonly answer: Answer;
  readonly firstHash: string;
  readonly rounds: readonly Pick<RoundRow, "hash" | "tokens" | "lossSum" | "origin" | "samples">[];
  readonly evaluations: ReadonlyMap<number, Pick<EvaluationRow, "lossSum" | "tokens" | "samples">>;
};

export async function undisturbed(world: World): Promise<Reference> {
  const { config, description, layout, codec, schedule } = world;
  const task = await createTask(description, async (path, range) => {
    const bytes = world.files.get(path)!;
    return range === undefined ? bytes : bytes.subarray(range.start, range.end);
  });
  const optimizer = openSimOptimizer(world, emptyDisk(), () => {});
  const firstHash = optimizer.hash();
  const gradient = new Float32Array(layout.length);
  const { answer } = await examine({
    engine: createPureEngine(world),
    spec: description.model,
    layout,
    batchSize: description.unit,
    gradient,
    nowMs: () => 0,
  });
  const rounds: Reference["rounds"][number][] = [];
  const evaluations = new Map<number, Reference["evaluations"] extends ReadonlyMap<number, infer Row> ? Row : never>();
  for (let version = 0; version <= config.steps; version++) {
    const last = version === config.steps;
    const samples = last ? config.finalEvaluationSamples : config.evaluationSamples;
    if (samples > 0 && (last || (config.evaluateEvery > 0 && version % config.evaluateEvery === 0))) {
      const sums = { lossSum: 0, tokens: 0, samples };
      for (let unit = 0; unit * config.evaluationUnit < samples; unit++) {
        const loss = lossOf(optimizer.hash(), await task.evaluationBatch({ samples, unit }));
        sums.lossSum += loss.lossSum;
        sums.tokens += loss.tokens;
      }
      evaluations.set(version, sums);
    }
    if (last) break;
    const origin = version * config.batch;
    const sums = { lossSum: 0, tokens: 0 };
    for (let unit = 0; unit * config.unit < config.batch; unit++) {
      const batch = await task.trainingBatch({ origin, samples: config.batch, unit, version });
      const loss = gradientOf(world, optimizer.hash(), batch, gradient);
      sums.lossSum += loss.lossSum;
      sums.tokens += loss.tokens;
      optimizer.add({ firstUnit: unit, units: 1, payload: encoded(codec, gradient) });
    }
    const learningRate = learningRateAt(schedule, version);
    optimizer.journalStep({ version: version + 1, tokens: sums.tokens, learningRate });
    optimizer.step();
    rounds.push({ hash: optimizer.hash(), origin, samples: config.batch, ...sums });
  }
  return { answer, firstHash, rounds, evaluations };
}

const references = new Map<string, Promise<Reference>>();

/** {@link undisturbed}, computed once per kind of run: it does not depend on who takes part. */
export function referenceOf(world: World): Promise<Reference> {
  const key = JSON.stringify([world.config, world.codec]);
  const known = references.get(key) ?? undisturbed(world);
  references.set(key, known);
  return known;
}
