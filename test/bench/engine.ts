/**
 * @file How much of the machine's own matrix-product speed the engines turn into training: forward+backward GFLOP/s (6·P·tokens/s)
 * over ONNX Runtime's MatMul of 1024³ in f32 on as many threads. Products and steps alternate, because a shared machine's
 * speed wanders; each step is divided by the products around it, by the wall clock and by this process's CPU time (what a
 * neighbour takes away from a step does not count there).
 *
 *     npm run bench -- engine [--threads 1] [--steps 15] [--only tiny|small] [--tfjs none|wasm|all]
 */
import os from "node:os";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import { encodeModel } from "../../shared/engine/onnxProto.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { initialParams } from "../../shared/model/init.ts";
import { type ModelSpec, presets } from "../../shared/model/spec.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { createNodeEngine, type EnginePreference } from "../../worker-node/engine.ts";
import { randomBatch } from "../support/engineCases.ts";

const cases = [
  { preset: "tiny", batchSize: 12, target: 0.75 },
  { preset: "small", batchSize: 8, target: 0.95 },
] as const;

export async function run(args: string[]): Promise<void> {
  const { values: flags } = parseArgs({
    args,
    options: {
      threads: { type: "string", default: "1" },
      steps: { type: "string", default: "15" },
      only: { type: "string" },
      tfjs: { type: "string", default: "all" },
    },
  });
  const threads = Number(flags.threads);
  const product = await createProduct(threads);
  console.log(
    `${os.cpus()[0]?.model.trim()}, ${os.cpus().length} cores, Node ${process.version}, ${threads} thread(s)`,
  );
  console.log(
    `${new Date().toISOString().slice(0, 10)}; ceiling: ONNX Runtime MatMul 1024×1024×1024 f32, alternating\n`,
  );
  console.log(
    "preset  batch    engine  ms/step   tokens/s  GFLOP/s  ceiling  ratio min/median/max    by CPU time            target",
  );
  for (const { preset, batchSize, target } of cases) {
    if (flags.only !== undefined && flags.only !== preset) continue;
    const spec: ModelSpec = { kind: "gpt", ...presets[preset], vocabulary: 65, dropout: 0 };
    // tfjs on one core needs half a minute for a step of tiny and an hour for small: once, and tiny only.
    const slow = preset !== "tiny" || flags.tfjs === "none" ? [] : flags.tfjs === "wasm" ? ["wasm"] : ["wasm", "cpu"];
    let onnxMs = 0;
    for (const engine of ["onnx", ...slow] as EnginePreference[]) {
      const result = await measure({
        spec,
        batchSize,
        engine,
        threads,
        product,
        steps: engine === "onnx" ? Number(flags.steps) : 1,
      });
      if (engine === "onnx") onnxMs = result.stepMs;
      const cells = [
        preset.padEnd(7),
        `${batchSize}×${spec.context}`.padEnd(8),
        engine.padEnd(6),
        result.stepMs.toFixed(1).padStart(8),
        result.tokensPerSecond.toFixed(0).padStart(10),
        result.gflops.toFixed(2).padStart(8),
        result.ceiling.toFixed(1).padStart(8),
        spread(result.ratios),
        spread(result.cpuRatios),
        engine === "onnx" ? `≥ ${target}` : `onnx is ${(result.stepMs / onnxMs).toFixed(0)}× faster`,
      ];
      console.log(cells.join(" "));
    }
  }
}

type Time = { readonly wallMs: number; readonly cpuMs: number };

type Product = { readonly flops: number; run: () => Promise<Time> };

/** The yardstick: a plain product of two 1024×1024 matrices, results written where the caller says, like the engine's. */
async function createProduct(threads: number): Promise<Product> {
  const n = 1024;
  const value = (name: string) => ({ name, type: "float32" as const, shape: [n, n] });
  const model = encodeModel({
    nodes: [{ op: "MatMul", inputs: ["a", "b"], outputs: ["y"] }],
    inputs: [value("a"), value("b")],
    outputs: [value("y")],
    constants: [],
  });
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  const tensor = () =>
    new ort.Tensor(
      "float32",
      Float32Array.from({ length: n * n }, (_, i) => (i % 7) - 3),
      [n, n],
    );
  const [a, b, y] = [tensor(), tensor(), tensor()];
  return { flops: 2 * n ** 3, run: () => elapsed(() => session.run({ a, b }, { y })) };
}

async function measure({
  spec,
  batchSize,
  engine: preference,
  threads,
  product,
  steps,
}: {
  spec: ModelSpec;
  batchSize: number;
  engine: EnginePreference;
  threads: number;
  product: Product;
  steps: number;
}) {
  const layout = layoutOf(gptTensors(spec));
  const { engine } = await createNodeEngine({ spec, layout, threads, preference });
  await engine.load(initialParams(spec, layout, 1));
  const batch = randomBatch(spec, batchSize, 1);
  const gradient = new Float32Array(layout.length);
  const step = () => elapsed(() => engine.gradient(batch, gradient));
  if (steps > 1) await step();
  await product.run();
  const tokens = batchSize * spec.context;
  const flops = 6 * layout.parameters * tokens;
  const stepMs: number[] = [];
  const ceilings: number[] = [];
  const ratios: number[] = [];
  const cpuRatios: number[] = [];
  // As long as a step, so that both see the same weather.
  const around = Math.max(1, Math.round((flops / product.flops) * 0.6));
  let before = await mean(around, product.run);
  for (let i = 0; i < steps; i++) {
    const time = await step();
    const after = await mean(around, product.run);
    const ratio = (key: keyof Time) => (flops / time[key] / product.flops) * ((before[key] + after[key]) / 2);
    stepMs.push(time.wallMs);
    ceilings.push(product.flops / ((before.wallMs + after.wallMs) / 2) / 1e6);
    ratios.push(ratio("wallMs"));
    cpuRatios.push(ratio("cpuMs"));
    before = after;
  }
  await engine.dispose();
  const ms = median(stepMs);
  return {
    stepMs: ms,
    tokensPerSecond: (tokens / ms) * 1000,
    gflops: flops / ms / 1e6,
    ceiling: median(ceilings),
    ratios,
    cpuRatios,
  };
}

function spread(ratios: readonly number[]): string {
  const three = [Math.min(...ratios), median(ratios), Math.max(...ratios)];
  return three
    .map((ratio) => ratio.toFixed(3))
    .join(" / ")
    .padStart(22);
}

async function mean(count: number, run: () => Promise<Time>): Promise<Time> {
  const times: Time[] = [];
  for (let i = 0; i < count; i++) times.push(await run());
  const average = (key: keyof Time) => times.reduce((sum, time) => sum + time[key], 0) / count;
  return { wallMs: average("wallMs"), cpuMs: average("cpuMs") };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function elapsed(work: () => Promise<unknown>): Promise<Time> {
  const [start, used] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(used);
  return { wallMs: performance.now() - start, cpuMs: (user + system) / 1000 };
}
