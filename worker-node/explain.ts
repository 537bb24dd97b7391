/**
 * @file `npm run explain -- --preset tiny`: the compiled step, before any GPU sees it: its dispatches with shapes, work and places,
 * the memory plan as a picture, and what three GPUs could make of it at best. With `--measure`, what this machine's makes of it.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { examinationBatch, examinationParams } from "../shared/engine/examination.ts";
import { stepGraph } from "../shared/engine/stepGraph.ts";
import { limitsOf } from "../shared/engine/wgsl/device.ts";
import { byKind, canTimeKernels, kernelTimes } from "../shared/engine/wgsl/kernelTimes.ts";
import { rooflineMs } from "../shared/engine/wgsl/roofline.ts";
import type { Variant } from "../shared/engine/wgsl/variant.ts";
import { compile, DEFAULT_LIMITS, type Place, type Plan, type PlanLimits } from "../shared/engine/wgsl/plan.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { type ModelSpec, type Preset, presets } from "../shared/model/spec.ts";
import { layoutOf, type ParamLayout } from "../shared/numerics/layout.ts";
import { tfjsWork, type Work } from "./tfjsWork.ts";
import { createEngineOn, openNodeDevice } from "./webgpuEngine.ts";

/** Published peaks in f32 and of memory. */
const gpus = [
  { name: "NVIDIA RTX 3060", teraflops: 12.7, gigabytesPerSecond: 360 },
  { name: "Apple M1 (8 cores)", teraflops: 2.6, gigabytesPerSecond: 68 },
  { name: "Intel Iris Xe (96 EU)", teraflops: 2.0, gigabytesPerSecond: 51 },
] as const;

type Flags = Variant & {
  preset: Preset;
  batch: number;
  vocabulary: number;
  dropout: number;
  binding: number;
  measure: boolean;
};

/** What is asked for and cannot be had here. */
class NotHere extends Error {}

try {
  const flags = parse(process.argv.slice(2));
  if (flags.measure) await explainMeasured(flags);
  else await explainPlanned(flags);
} catch (error) {
  if (error instanceof NotHere) process.stderr.write(`${error.message}\n`);
  else if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error instanceof CommanderError && error.exitCode === 0 ? 0 : 2;
}

function parse(argv: readonly string[]): Flags {
  const program = new Command("npm run explain --")
    .description("Prints the compiled WebGPU step of a model: dispatches, memory plan, best possible times.")
    .addOption(new Option("--preset <name>", "size of the model").choices(Object.keys(presets)).default("tiny"))
    .option("--batch <n>", "windows in a step", wholeFrom(1, 4096), 12)
    .option("--vocabulary <n>", "token ids", wholeFrom(2, 1_000_000), 65)
    .option("--dropout <p>", "probability of dropping a value", parseDropout, 0)
    .option("--binding <MiB>", "the device's largest binding", wholeFrom(1, 4095), 128)
    .option("--subgroups", "as for devices whose subgroups compute right", false)
    .option("--alone", "as for adapters that are a processor, like SwiftShader", false)
    .addOption(new Option("--storage <type>", "of activations").choices(["f32", "f16"]).default("f32"))
    .option("--measure", "run the step on this machine's GPU, with its own limits, and time every kernel", false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.split("\n")[0] + "\n") });
  program.parse([...argv], { from: "user" });
  return program.opts<Flags>();
}

function modelOf({ preset, vocabulary, dropout }: Flags): { spec: ModelSpec; layout: ParamLayout } {
  const spec: ModelSpec = { kind: "gpt", ...presets[preset], vocabulary, dropout };
  return { spec, layout: layoutOf(gptTensors(spec)) };
}

async function explainPlanned(flags: Flags): Promise<void> {
  const { batch, binding, dropout } = flags;
  const { spec, layout } = modelOf(flags);
  const limits = { ...DEFAULT_LIMITS, maxBindingBytes: binding * 2 ** 20, maxBufferBytes: 2 * binding * 2 ** 20 };
  const graph = stepGraph("gradient", spec, layout, batch);
  const plan = compile(graph, { layout, limits, dropout, variant: flags });
  const opByOp = await tfjsWork({ spec, layout, batchSize: batch, maxBindings: limits.maxBindings });
  describe(flags, plan, { limits, nodes: graph.nodes.length, opByOp, ms: null });
}

/** The plan that this machine's device gets, and the times of its kernels there. @throws NotHere */
async function explainMeasured(flags: Flags): Promise<void> {
  const opened = await openNodeDevice().catch((error: unknown) => {
    throw new NotHere(`nothing to measure on: ${error instanceof Error ? error.message : String(error)}`);
  });
  const { device, info, isSoftware } = opened;
  if (!canTimeKernels(device)) throw new NotHere(`${info.description} has no timestamps (WebGPU's "timestamp-query")`);
  if (flags.subgroups && !device.features.has("subgroups")) throw new NotHere(`${info.description} has no subgroups`);
  if (flags.storage === "f16" && !device.features.has("shader-f16"))
    throw new NotHere(`${info.description} has no f16`);
  const { batch, dropout } = flags;
  const { spec, layout } = modelOf(flags);
  const limits = limitsOf(device);
  const graph = stepGraph("gradient", spec, layout, batch);
  const plan = compile(graph, { layout, limits, dropout, variant: flags });
  const engine = await createEngineOn(opened, { spec, layout, limits, planFor: () => plan });
  await engine.load(examinationParams(layout));
  await engine.gradient(examinationBatch(spec, batch), new Float32Array(layout.length));
  const ms = await kernelTimes(device, await engine.replayFor("gradient", batch));
  const opByOp = await tfjsWork({ spec, layout, batchSize: batch, maxBindings: limits.maxBindings });
  describe(flags, plan, { limits, nodes: graph.nodes.length, opByOp, ms });
  const all = ms.reduce((sum, x) => sum + x, 0);
  say();
  say(
    `on ${info.description || info.vendor}${isSoftware ? ", a software adapter, which says nothing about GPUs" : ""}:`,
  );
  say("  kernels            dispatches         ms  share    GFLOP/s       GB/s");
  for (const { name, dispatches, ms: own, flops, bytes } of byKind(plan.dispatches, ms)) {
    const rates = [flops, bytes].map((work) => (own === 0 ? "–" : (work / own / 1e6).toFixed(1)).padStart(10));
    say(`  ${name.padEnd(18)} ${String(dispatches).padStart(10)} ${own.toFixed(3).padStart(10)} ${`${((100 * own) / all).toFixed(0)} %`.padStart(6)} ${rates.join(" ")}`); // prettier-ignore
  }
  say(`  ${all.toFixed(2)} ms, ${Math.round((batch * spec.context * 1000) / all).toLocaleString("en")} tokens/s with nothing between kernels`); // prettier-ignore
  await engine.dispose();
  device.destroy();
}

type Known = {
  readonly limits: PlanLimits;
  /** Of the traced graph. */
  readonly nodes: number;
  /** What tfjs would dispatch for the same step. */
  readonly opByOp: readonly Work[];
  /** Of each dispatch, where it was measured. */
  readonly ms: readonly number[] | null;
};

function describe(flags: Flags, plan: Plan, { limits, nodes, opByOp, ms }: Known): void {
  const { preset, batch, vocabulary } = flags;
  const { spec, layout } = modelOf(flags);
  const { context } = spec;
  say(
    `${preset}: ${layout.parameters.toLocaleString("en")} parameters, ${batch}×${context} tokens, vocabulary ${vocabulary}`,
  );
  say(`limits: ${mib(limits.maxBindingBytes)} MiB a binding, ${mib(limits.maxBufferBytes)} MiB a buffer, ${limits.maxBindings} bindings a kernel`); // prettier-ignore
  say();
  say(`   #  pl  kernel                                       with                        workgroups     MFLOP        kB  ${ms === null ? "" : "      ms  "}memory`); // prettier-ignore
  for (const [i, { pipeline, name, fused, workgroups, flops, bytes, bindings }] of plan.dispatches.entries()) {
    const cells = [
      String(i).padStart(4),
      String(pipeline).padStart(3),
      ` ${name.padEnd(44)}`,
      fused.map(shortName).join("+").padEnd(26),
      workgroups.join("×").padStart(11),
      (flops / 1e6).toFixed(2).padStart(9),
      (bytes / 1e3).toFixed(0).padStart(9),
      ...(ms === null ? [] : [(ms[i] ?? 0).toFixed(3).padStart(9)]),
      ` ${bindings.map(placeText).join(" ")}`,
    ];
    say(cells.join(" "));
  }
  say();
  say("memory: p parameters, g gradients, i inputs, a activations; then the buffer's number and the offset in bytes");
  say();
  drawMemory(plan);
  say(`${plan.dispatches.length} dispatches`);
  say(`${plan.pipelines.length} pipelines, ${nodes} nodes in the traced graph`);
  say(workText(plan.dispatches));
  say(`tfjs, op by op: ${opByOp.length} dispatches, ${workText(opByOp)}`);
  say();
  say("at best, each dispatch at the device's published peak of arithmetic or of memory, whichever is slower, and 3 µs to start it:"); // prettier-ignore
  say("                                        compiled                              tfjs, op by op");
  for (const gpu of gpus) {
    const cells = [plan.dispatches, opByOp].map((work) => {
      const best = rooflineMs(work, gpu);
      const tokens = Math.round((batch * context * 1000) / best).toLocaleString("en");
      return `${best.toFixed(2).padStart(9)} ms  ${tokens.padStart(10)} tokens/s`;
    });
    say(`  ${gpu.name.padEnd(22)} ${cells.join("  ")}  (${gpu.teraflops} TFLOP/s, ${gpu.gigabytesPerSecond} GB/s)`);
  }
}

function workText(work: readonly Work[]): string {
  const [flops, bytes] = [work.reduce((sum, x) => sum + x.flops, 0), work.reduce((sum, x) => sum + x.bytes, 0)];
  return `${(flops / 1e9).toFixed(2)} GFLOP, ${(bytes / 1e6).toFixed(0)} MB moved at least`;
}

/** Time from left to right, addresses from the top down; a letter is a value, as long as it lives. */
function drawMemory({ lifetimes, activationBytes, lowerBoundBytes, dispatches }: Plan): void {
  const [columns, rows] = [Math.min(96, dispatches.length), 20];
  const whole = activationBytes.reduce((sum, bytes) => sum + bytes, 0);
  say(`activations: ${mib(whole)} MiB in ${activationBytes.length} buffer(s); ${mib(lowerBoundBytes)} MiB is the most alive at once`); // prettier-ignore
  const starts = activationBytes.map((_, i) => activationBytes.slice(0, i).reduce((sum, bytes) => sum + bytes, 0));
  const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  for (let row = 0; row < rows; row++) {
    const address = ((row + 0.5) * whole) / rows;
    let line = "";
    for (let column = 0; column < columns; column++) {
      const time = Math.floor(((column + 0.5) * dispatches.length) / columns);
      const held = lifetimes.findIndex(({ from, to, buffer, offset, bytes }) => {
        const start = (starts[buffer] ?? 0) + offset;
        return from <= time && time <= to && start <= address && address < start + bytes;
      });
      line += held < 0 ? "·" : (letters[held % letters.length] ?? "?");
    }
    say(`${mib((row * whole) / rows).padStart(8)} ${line}`);
  }
  say();
}

function placeText({ arena, buffer, offset }: Place): string {
  return `${arena[0]}${buffer}+${offset}`;
}

function shortName(op: string): string {
  return op.replace("Manyhands", "");
}

function wholeFrom(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (Number.isInteger(number) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`Allowed: a whole number from ${least} to ${most}.`);
  };
}

function parseDropout(value: string): number {
  const number = Number(value);
  if (number >= 0 && number < 1) return number;
  throw new InvalidArgumentError("Allowed: a number from 0 to below 1.");
}

function say(line = ""): void {
  process.stdout.write(`${line}\n`);
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
