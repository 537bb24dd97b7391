import "@tensorflow/tfjs-backend-cpu";
import { expect, test } from "vitest";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import type { Engine } from "../../../shared/engine/engine.ts";
import { examine } from "../../../shared/engine/examination.ts";
import { engineCases } from "../../support/engineCases.ts";

const { spec, layout } = engineCases[2]!;

test.each([
  { title: "an engine that tells its time is examined with one step", own: 12.5, steps: 1, stepMs: 12.5 },
  { title: "another takes a second step, for its time without what was built for the first", own: null, steps: 2, stepMs: 100 }, // prettier-ignore
])("$title", async ({ own, steps, stepMs }) => {
  const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
  let [taken, nowMs] = [0, 0];
  const watched: Engine = {
    ...engine,
    gradient: (batch, gradient) => {
      taken += 1;
      nowMs += taken === 1 ? 5000 : 100;
      return engine.gradient(batch, gradient);
    },
    ...(own !== null && { lastStepMs: () => own }),
  };
  const gradient = new Float32Array(layout.length);
  const found = await examine({ engine: watched, spec, layout, batchSize: 2, gradient, nowMs: () => nowMs });
  expect({ taken, stepMs: found.stepMs }).toEqual({ taken: steps, stepMs });
  await engine.dispose();
});
