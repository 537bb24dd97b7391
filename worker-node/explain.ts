/**
 * @file `npm run explain -- --preset tiny`: the compiled step, before any GPU sees it: its dispatches with shapes, work and places,
 * the memory plan as a picture, and what three GPUs could make of it at best.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { stepGraph } from "../shared/engine/stepGraph.ts";
import { rooflineMs } from "../shared/engine/wgsl/roofline.ts";
import { compile, DEFAULT_LIMITS, type Place, type Plan } from "../shared/engine/wgsl/plan.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { type ModelSpec, type Preset, presets } from "../shared/model/spec.ts";
import { layoutOf } from "../shared/numerics/layout.ts";

/** Published peaks in f32 and of memory. */
const gpus = [
  { name: "NVIDIA RTX 3060", teraflops: 12.7, gigabytesPerSecond: 360 },
  { name: "Apple M1 (8 cores)", teraflops: 2.6, gigabytesPerSecond: 68 },
  { name: "Intel Iris Xe (96 EU)", teraflops: 2.0, gigabytesPerSecond: 51 },
] as const;

type Flags = { preset: Preset; batch: number; vocabulary: number; dropout: number; binding: number };

try {
  explain(parse(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}

function parse(argv: readonly string[]): Flags {
  const program = new Command("npm run explain --")
    .description("Prints the compiled WebGPU step of a model: dispatches, memory plan, best possible times.")
    .addOption(new Option("--preset <name>", "size of the model").choices(Object.keys(presets)).default("tiny"))
    .option("--batch <n>", "windows in a step", wholeFrom(1, 4096), 12)
    .option("--vocabulary <n>", "token ids", wholeFrom(2, 1_000_000), 65)
    .option("--dropout <p>", "probability of dropping a value", parseDropout, 0)
    .option("--binding <MiB>", "the device's largest binding", wholeFrom(1, 4095), 128)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.split("\n")[0] + "\n") });
  program.parse([...argv], { from: "user" });
  return program.opts<Flags>();
}

function explain({ preset, batch, vocabulary, dropout, binding }: Flags): void {
  const spec: ModelSpec = { kind: "gpt", ...presets[preset], vocabulary, dropout };
  const layout = layoutOf(gptTensors(spec));
  const limits = { ...DEFAULT_LIMITS, maxBindingBytes: binding * 2 ** 20, maxBufferBytes: 2 * binding * 2 ** 20 };
  const graph = stepGraph("gradient", spec, layout, batch);
  const plan = compile(graph, { layout, limits, dropout });
  say(`${preset}: ${layout.parameters.toLocaleString("en")} parameters, ${batch}×${spec.context} tokens, vocabulary ${vocabulary}`); // prettier-ignore
  say(`limits: ${binding} MiB a binding, ${2 * binding} MiB a buffer, ${limits.maxBindings} bindings a kernel`);
  say();
  say("   #  pl  kernel                                       with                        workgroups     MFLOP        kB  memory"); // prettier-ignore
  for (const [i, { pipeline, name, fused, workgroups, flops, bytes, bindings }] of plan.dispatches.entries()) {
    const cells = [
      String(i).padStart(4),
      String(pipeline).padStart(3),
      ` ${name.padEnd(44)}`,
      fused.map(shortName).join("+").padEnd(26),
      workgroups.join("×").padStart(11),
      (flops / 1e6).toFixed(2).padStart(9),
      (bytes / 1e3).toFixed(0).padStart(9),
      ` ${bindings.map(placeText).join(" ")}`,
    ];
    say(cells.join(" "));
  }
  say();
  say("memory: p parameters, g gradients, i inputs, a activations; then the buffer's number and the offset in bytes");
  say();
  drawMemory(plan);
  const sum = (pick: (dispatch: Plan["dispatches"][number]) => number) =>
    plan.dispatches.reduce((total, dispatch) => total + pick(dispatch), 0);
  say(`${plan.dispatches.length} dispatches`);
  say(`${plan.pipelines.length} pipelines, ${graph.nodes.length} nodes in the traced graph`);
  say(`${(sum(({ flops }) => flops) / 1e9).toFixed(2)} GFLOP, ${(sum(({ bytes }) => bytes) / 1e6).toFixed(0)} MB moved at least`); // prettier-ignore
  say();
  say("at best, each dispatch at the device's published peak of arithmetic or of memory, whichever is slower, and 3 µs to start it:"); // prettier-ignore
  for (const gpu of gpus) {
    const ms = rooflineMs(plan.dispatches, gpu);
    const tokens = (batch * spec.context * 1000) / ms;
    say(`  ${gpu.name.padEnd(22)} ${ms.toFixed(2).padStart(9)} ms  ${Math.round(tokens).toLocaleString("en").padStart(10)} tokens/s  (${gpu.teraflops} TFLOP/s, ${gpu.gigabytesPerSecond} GB/s)`); // prettier-ignore
  }
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
