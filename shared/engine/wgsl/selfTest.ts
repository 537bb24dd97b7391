/**
 * @file Chooses the variant of a device: one is taken where this device finds with it what it finds without. Drivers promise features
 * that do not work, and a step that is wrong is worse than one that is slow.
 */
import { i8 } from "../../codec/blockInt.ts";
import { type Codec, encode, encodedBytes } from "../../codec/codec.ts";
import type { ModelSpec } from "../../model/spec.ts";
import type { ParamLayout } from "../../numerics/layout.ts";
import type { Engine } from "../engine.ts";
import { type Answer, compareAnswers, examine } from "../examination.ts";
import { limitsOf, type OpenDevice } from "./device.ts";
import { type CreateEncoder, createGradientEncoder } from "./encoder.ts";
import { compilePipeline, USAGE } from "./replay.ts";
import { PLAIN, type Storage, type Variant } from "./variant.ts";

export type VariantChoice = {
  readonly variant: Variant;
  /** What the device offers, or was asked for, and is not used; and why. */
  readonly refused: readonly string[];
};

/**
 * Relative, of the loss and of every tensor's gradient. Another order of sums shows 1e-6; 16-bit activations up to 3e-3; a kernel that
 * is wrong 0.1 and more.
 */
const TOLERANCE = { subgroups: 1e-4, f16: 2e-2 } as const;

/**
 * The examination's step, taken plainly and with what is to be examined. `create` makes an engine for one step; `batchSize` is of a step
 * that will be wanted anyway. A software adapter is not asked, two more steps at the start would cost it more than it could gain:
 * it gets what suits a processor, and is plain WebGPU.
 */
export async function chooseVariant({
  opened: { device, isSoftware },
  create,
  spec,
  layout,
  batchSize,
  storage,
}: {
  opened: Pick<OpenDevice, "device" | "isSoftware">;
  create: (variant: Variant, onOverflow: () => void) => Promise<Engine>;
  spec: ModelSpec;
  layout: ParamLayout;
  batchSize: number;
  /** What activations may be stored as: f16 is the run's to allow. */
  storage: Storage;
}): Promise<VariantChoice> {
  const { features } = device;
  if (isSoftware) return { variant: { ...PLAIN, alone: true }, refused: [] };
  if (storage === "f32" && !features.has("subgroups")) return { variant: PLAIN, refused: [] };
  const gradient = new Float32Array(layout.length);
  const answerOf = async (variant: Variant, onOverflow = (): void => {}): Promise<Answer> => {
    const engine = await create(variant, onOverflow);
    try {
      return (await examine({ engine, spec, layout, batchSize, gradient, nowMs: () => 0 })).answer;
    } finally {
      await engine.dispose();
    }
  };
  // Where even the plain step fails, for want of memory say, the examination proper will find the words for it.
  const expected = await answerOf(PLAIN).catch(() => null);
  if (expected === null) return { variant: PLAIN, refused: [] };
  const problemOf = (variant: Variant, tolerance: number): Promise<string | null> =>
    withoutFault(device, async () => {
      let isFinite = true;
      const answer = await answerOf(variant, () => (isFinite = false));
      // The engine has computed it again in f32, which is no answer to this question.
      if (!isFinite) return "its gradient is not finite";
      const { loss, worst } = compareAnswers(layout, answer, expected);
      // Negated, so that NaN is a problem.
      if (loss <= tolerance && worst.error <= tolerance) return null;
      return `the loss is off by ${loss.toExponential(1)}, the gradient of ${worst.name || "no tensor"} by ${worst.error.toExponential(1)} (relative)`;
    });
  let variant = PLAIN;
  const refused: string[] = [];
  if (features.has("subgroups")) {
    const problem = await problemOf({ ...variant, subgroups: true }, TOLERANCE.subgroups);
    if (problem === null) variant = { ...variant, subgroups: true };
    else refused.push(`its subgroups: ${problem}`);
  }
  if (storage === "f16") {
    const problem = !features.has("shader-f16")
      ? "it has none"
      : ((await withoutFault(device, () => overflowProblem(device))) ??
        (await problemOf({ ...variant, storage }, TOLERANCE.f16)));
    if (problem === null) variant = { ...variant, storage };
    else refused.push(`its 16-bit floats: ${problem}`);
  }
  return { variant, refused };
}

/** What `work` finds, or the error that it or the device had: one that nobody asked for would end the device's use. */
async function withoutFault(device: GPUDevice, work: () => Promise<string | null>): Promise<string | null> {
  const kinds = ["validation", "out-of-memory", "internal"] as const;
  for (const kind of kinds) device.pushErrorScope(kind);
  let problem = await work().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  for (const _ of kinds) problem = (await device.popErrorScope())?.message ?? problem;
  return problem?.replaceAll(/\s+/g, " ").slice(0, 200) ?? null;
}

/** Values of every size, halves that are rounded to even, blocks of zeros; the loss behind them. */
const TO_ENCODE: Float32Array<ArrayBuffer> = Float32Array.from({ length: 5 * i8.block + 1 }, (_, i) => {
  const block = Math.floor(i / i8.block);
  return [(i % 255) - 127, ((i % 509) - 254) / 2, 0, Math.sin(i) * 1e-30, Math.sin(i) * 1e9, 1.5][block]!;
});

/** How the device encodes gradients, which travel by `codec`; null where it does not. `refused`: why not, where it could. */
export async function chooseEncoding(
  device: GPUDevice,
  codec: Codec,
): Promise<{ createEncoder: CreateEncoder | null; refused: readonly string[] }> {
  if (codec !== "i8") return { createEncoder: null, refused: [] };
  const problem = await encodingProblem(device);
  if (problem === null) return { createEncoder: createGradientEncoder, refused: [] };
  return { createEncoder: null, refused: [`its encoding of gradients: ${problem}`] };
}

function encodingProblem(device: GPUDevice): Promise<string | null> {
  return withoutFault(device, async () => {
    const gradient = device.createBuffer({ size: 4 * TO_ENCODE.length, usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget }); // prettier-ignore
    const values = TO_ENCODE.subarray(0, -1);
    const encoder = await createGradientEncoder(device, {
      segments: [{ start: 0, end: values.length }],
      gradients: [gradient],
      limits: limitsOf(device),
      compiled: new Map(),
    });
    try {
      device.queue.writeBuffer(gradient, 0, TO_ENCODE);
      const commands = device.createCommandEncoder();
      encoder.record(commands);
      device.queue.submit([commands.finish()]);
      const [found, expected] = [0, 1].map(() => new Uint8Array(encodedBytes("i8", values.length)));
      const loss = await encoder.read(found!);
      encode("i8", values, expected!);
      const wrong = found!.findIndex((byte, i) => byte !== expected![i]);
      if (wrong >= 0) return `byte ${wrong} is ${found![wrong]}, not ${expected![wrong]}`;
      return loss === TO_ENCODE.at(-1) ? null : `the loss is ${loss}, not ${TO_ENCODE.at(-1)}`;
    } finally {
      encoder.dispose();
      gradient.destroy();
    }
  });
}

/** Too large for f16, each in its own way: just so, far so, and below. */
const TOO_LARGE = [65_536, 1e30, -1e6];

const STORE = `enable f16;
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> halves: array<f16>;
@compute @workgroup_size(${TOO_LARGE.length})
fn main(@builtin(local_invocation_index) lane: u32) { halves[lane] = f16(values[lane]); }`;

/**
 * WGSL leaves open what a number too large for f16 becomes. Only where it becomes one that is not finite does a step notice, and is
 * computed again.
 */
export async function overflowProblem(device: GPUDevice, code: string = STORE): Promise<string | null> {
  const pipeline = await compilePipeline(device, code, "f16 overflow");
  const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  const [values, halves] = [16, 8].map((size) => device.createBuffer({ size, usage }));
  const read = device.createBuffer({ size: 8, usage: USAGE.mapRead | USAGE.copyTarget });
  try {
    device.queue.writeBuffer(values!, 0, Float32Array.from(TOO_LARGE));
    const entries = [values!, halves!].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(halves!, 0, read, 0, 8);
    device.queue.submit([encoder.finish()]);
    await read.mapAsync(MAP_READ);
    const bits = new Uint16Array(read.getMappedRange());
    const finite = TOO_LARGE.find((_, i) => (bits[i]! & INFINITY) !== INFINITY);
    return finite === undefined ? null : `${finite} becomes a smaller number there, unnoticed`;
  } finally {
    for (const buffer of [values!, halves!, read]) buffer.destroy();
  }
}

/** GPUMapMode.READ */
const MAP_READ = 1;

/** The exponent of an f16 that is not finite. */
const INFINITY = 0x7c00;
