/**
 * @file The traced steps of a run's model, as a program for the coordinator, which loads no tfjs: what browsers compile for their
 * GPUs. Writes a JSON list of { kind, batchSize, graph }; the graph is text (shared/engine/graphFile.ts).
 */
import { examinationSamples } from "../shared/engine/examination.ts";
import { serialiseGraph } from "../shared/engine/graphFile.ts";
import { stepGraph } from "../shared/engine/stepGraph.ts";
import type { StepKind } from "../shared/engine/stepKind.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { layoutOf } from "../shared/numerics/layout.ts";
import type { RunDescription } from "../shared/wire/protocol.ts";

const { model, unit, evaluationUnit } = JSON.parse(process.argv[2] ?? "") as RunDescription;
const layout = layoutOf(gptTensors(model));
const steps: readonly { kind: StepKind; batchSize: number }[] = [
  ...[...new Set([examinationSamples(unit), unit])].map((batchSize) => ({ kind: "gradient" as const, batchSize })),
  { kind: "loss", batchSize: evaluationUnit },
];
process.stdout.write(
  JSON.stringify(
    steps.map(({ kind, batchSize }) => {
      return { kind, batchSize, graph: serialiseGraph(stepGraph(kind, model, layout, batchSize)) };
    }),
  ),
);
