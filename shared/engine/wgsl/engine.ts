/**
 * @file The engine over compiled plans: θ and gradients in arenas on the device, a step one upload, a few hundred calls to record
 * it, one read-back. Knows neither tfjs nor the model's code: plans come from `planFor`.
 */
import type { ParamLayout, TensorSlot } from "../../numerics/layout.ts";
import type { ModelSpec } from "../../model/spec.ts";
import { checkBatch, checkInputs, dropoutSites } from "../batch.ts";
import type { Batch, Engine, Loss } from "../engine.ts";
import { inMicroBatches } from "../microBatch.ts";
import type { StepKind } from "../stepKind.ts";
import { ALIGNMENT_OF_LOSS, arenaSegments, placeIn } from "./arenas.ts";
import type { OpenDevice } from "./device.ts";
import { limitsOf } from "./device.ts";
import type { Plan, PlanLimits } from "./plan.ts";
import type { CreateEncoder, GradientEncoder } from "./encoder.ts";
import { writeInputs, writeTokens } from "./inputs.ts";
import { createReplay, OutOfMemory, type Replay, SUBMIT_MS, submitEnd, USAGE } from "./replay.ts";
import type { Storage } from "./variant.ts";

export type WgslEngineOptions = {
  readonly opened: Pick<OpenDevice, "device" | "fault">;
  readonly spec: ModelSpec;
  readonly layout: ParamLayout;
  readonly planFor: (kind: StepKind, batchSize: number, storage: Storage) => Plan | Promise<Plan>;
  /** How gradients' plans store activations; losses and logits are always computed in f32. */
  readonly storage?: Storage;
  /** A gradient was not finite with f16, and is computed again in f32: how often that was. */
  readonly onOverflow?: (count: number) => void;
  readonly nowMs: () => number;
  /** What the plans keep to, when that is less than the device allows. */
  readonly limits?: Pick<PlanLimits, "maxBufferBytes">;
  /** Pipelines by their text, shared by engines on one device. */
  readonly compiled?: Map<string, GPUComputePipeline>;
  /** Pipelines compiled so far, of all. */
  readonly onProgress?: (done: number, all: number) => void;
  /** A batch did not fit the device's memory and is computed in parts of `samples`; without it, that is an error. */
  readonly onSmallerBatch?: (samples: number) => void;
  /** With it gradients can be had as `i8`, where there is memory for it. */
  readonly createEncoder?: CreateEncoder | null;
  /** For who only writes: no memory for gradients, and no gradient() and loss(). */
  readonly logitsOnly?: boolean;
};

/** What the engine tells about its last step. */
export type StepTimes = {
  /** JavaScript: preparing inputs, recording and submitting. */
  readonly hostMs: number;
  /** From the first submit until the results were there. */
  readonly waitMs: number;
  readonly submits: number;
};

export type WgslEngine = Engine & {
  readonly logitsAt: NonNullable<Engine["logitsAt"]>;
  readonly lastStep: () => StepTimes;
  readonly replayFor: (kind: StepKind, batchSize: number, storage?: Storage) => Promise<Replay>;
  /** Where a parameter lies on the device: what load() writes, until dispose(). */
  readonly bindingOf: (slot: TensorSlot) => Required<GPUBufferBinding>;
};

/** Lease sizes vary a little at the end of an epoch; a plan holds its own activations, so old ones go. */
const MAX_PLANS = 4;

/** Until it was measured: a slow laptop's share for us. A faster device gets fewer submits from the second step on. */
const FIRST_FLOPS_PER_MS = 2e7;

/** @throws Error when the device cannot run the model, with the reason. */
export async function createWgslEngine({
  opened: { device, fault },
  spec,
  layout,
  planFor,
  storage = "f32",
  onOverflow,
  nowMs,
  limits = limitsOf(device),
  compiled = new Map(),
  onProgress,
  onSmallerBatch,
  createEncoder = null,
  logitsOnly = false,
}: WgslEngineOptions): Promise<WgslEngine> {
  const { queue } = device;
  const segments = arenaSegments(layout, limits.maxBufferBytes - ALIGNMENT_OF_LOSS);
  const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  const bytes = segments.map(
    ({ start, end }, i) => 4 * (end - start) + (i === segments.length - 1 ? ALIGNMENT_OF_LOSS : 0),
  );
  device.pushErrorScope("out-of-memory");
  const params = segments.map(({ start, end }) => device.createBuffer({ size: 4 * (end - start), usage }));
  const gradientBytes = logitsOnly ? [] : bytes;
  const gradients = gradientBytes.map((size) => device.createBuffer({ size, usage }));
  const readback = gradientBytes.map((size) => device.createBuffer({ size, usage: USAGE.mapRead | USAGE.copyTarget }));
  const noMemory = await device.popErrorScope();
  const owned = [...params, ...gradients, ...readback];
  if (noMemory) {
    for (const buffer of owned) buffer.destroy();
    throw new OutOfMemory(`for the parameters: ${noMemory.message}`);
  }

  const encoder = createEncoder && (await withinMemory(device, () => createEncoder(device, { segments, gradients, limits: limitsOf(device), compiled }))); // prettier-ignore

  const replays = new Map<string, Promise<Replay>>();
  /** The one asked for last, where no other is being made: a step that is like the one before asks nobody and waits for nothing. */
  let latest: { kind: StepKind; batchSize: number; stored: Storage; replay: Replay } | undefined;
  const sites = dropoutSites(spec).map(({ name }) => name);
  let isLoaded = false;
  let flopsPerMs = FIRST_FLOPS_PER_MS;
  /** Samples that are tried at once. */
  let most = Infinity;
  let overflows = 0;
  const times = { startMs: 0, submittedMs: 0, endMs: 0, submits: 0 };

  const readyFor = (kind: StepKind, { batchSize }: Pick<Batch, "batchSize">, stored: Storage): Replay | undefined =>
    latest?.kind === kind && latest.batchSize === batchSize && latest.stored === stored ? latest.replay : undefined;

  const replayFor = async (
    kind: StepKind,
    batchSize: number,
    stored: Storage = kind === "gradient" ? storage : "f32",
  ): Promise<Replay> => {
    if (logitsOnly && kind !== "logits") throw new Error(`an engine for logits only was asked for the ${kind}`);
    latest = undefined;
    const key = `${kind} ${batchSize} ${stored}`;
    const known = replays.get(key);
    replays.delete(key);
    const created =
      known ??
      (async () => {
        const plan = await planFor(kind, batchSize, stored);
        return createReplay(device, plan, { params, gradients }, { compiled, ...(onProgress && { onProgress }) });
      })();
    replays.set(key, created); // last = most recently used
    const [oldest] = replays.keys();
    if (replays.size > MAX_PLANS && oldest !== undefined) {
      const evicted = replays.get(oldest);
      replays.delete(oldest);
      (await evicted)?.dispose();
    }
    try {
      const replay = await created;
      if ([...replays.keys()].at(-1) === key) latest = { kind, batchSize, stored, replay };
      return replay;
    } catch (error) {
      replays.delete(key);
      throw error;
    }
  };

  // A step makes no closures, no arrays and no promise but its own: a collector would stop the thread for them.

  /** Uploads what is in `staging`, records and submits the step, and the copies that `finish` asks for with its last part. */
  const submit = (replay: Replay, finish: (encoder: GPUCommandEncoder) => void): void => {
    if (!isLoaded) throw new Error("load() was not called before computing");
    const { dispatches } = replay.plan;
    const isFast = replay.work < SUBMIT_MS * flopsPerMs;
    replay.upload();
    times.submits = 0;
    for (let from = 0, end = 0; from < dispatches.length; from = end) {
      end = isFast ? dispatches.length : submitEnd(dispatches, from, flopsPerMs);
      const encoder = device.createCommandEncoder();
      replay.record(encoder, from, end);
      if (end === dispatches.length) finish(encoder);
      queue.submit([encoder.finish()]);
      times.submits++;
    }
    times.submittedMs = nowMs();
  };

  /** The results are there. @throws Error when the device reported one meanwhile. */
  const arrived = (replay: Replay): void => {
    const found = fault();
    if (found !== null) throw new Error(found);
    times.endMs = nowMs();
    flopsPerMs = replay.work / Math.max(times.endMs - times.startMs, 0.01);
  };

  const last = segments.length - 1;
  const lossOffset = 4 * (segments[last]!.end - segments[last]!.start);
  const copyGradient = (encoder: GPUCommandEncoder): void => {
    for (let i = 0; i <= last; i++) encoder.copyBufferToBuffer(gradients[i]!, 0, readback[i]!, 0, bytes[i]);
  };
  const copyLoss = (encoder: GPUCommandEncoder): void =>
    encoder.copyBufferToBuffer(gradients[last]!, lossOffset, readback[last]!, lossOffset, 4);

  /** Starts the step of a batch, with the masks of `masked`. */
  const begin = (
    replay: Replay,
    batch: Batch,
    masked: readonly string[],
    finish: (encoder: GPUCommandEncoder) => void,
  ): void => {
    times.startMs = nowMs();
    writeInputs(replay.staging, replay.plan, spec, masked, batch);
    submit(replay, finish);
  };

  /** Copies what was read back of segment i to its place in `gradient`. → the loss, where it is behind that segment. */
  const take = (i: number, gradient: Float32Array): number => {
    const { start, end } = segments[i]!;
    const values = new Float32Array(readback[i]!.getMappedRange());
    gradient.set(values.subarray(0, end - start), start);
    const behind = values[end - start] ?? NaN;
    readback[i]!.unmap();
    return behind;
  };

  const gradientOf = async (batch: Batch, gradient: Float32Array, stored: Storage): Promise<Loss> => {
    const tokens = checkBatch(spec, batch);
    const replay = readyFor("gradient", batch, stored) ?? (await replayFor("gradient", batch.batchSize, stored));
    begin(replay, batch, sites, copyGradient);
    let lossSum = NaN;
    for (let i = 0; i <= last; i++) {
      await readback[i]!.mapAsync(MAP_READ);
      lossSum = take(i, gradient);
    }
    arrived(replay);
    if (stored === "f32" || allFinite(lossSum, gradient)) return { lossSum, tokens };
    // What is beyond f16. Always the same way, so that the same batch has the same bits whatever came before it.
    onOverflow?.(++overflows);
    return gradientOf(batch, gradient, "f32");
  };

  const encodedGradientOf = async (
    encoder: GradientEncoder,
    batch: Batch,
    payload: Uint8Array,
    stored: Storage,
  ): Promise<Loss> => {
    const tokens = checkBatch(spec, batch);
    const replay = readyFor("gradient", batch, stored) ?? (await replayFor("gradient", batch.batchSize, stored));
    begin(replay, batch, sites, encoder.record);
    const lossSum = await encoder.read(payload).catch((error: unknown) => {
      if (stored === "f16" && error instanceof RangeError) return Infinity;
      throw error;
    });
    arrived(replay);
    if (stored === "f32" || Number.isFinite(lossSum)) return { lossSum, tokens };
    onOverflow?.(++overflows);
    return encodedGradientOf(encoder, batch, payload, "f32");
  };

  /** Elements [start, end) of the logits. */
  const logitsOf = async (
    inputs: Int32Array,
    batchSize: number,
    [start, end]: readonly [number, number],
  ): Promise<Float32Array> => {
    const replay = readyFor("logits", { batchSize }, "f32") ?? (await replayFor("logits", batchSize));
    const place = replay.plan.outputs["logits"];
    if (!place) throw new Error("the plan for logits has no logits");
    const size = 4 * (end - start);
    const target = device.createBuffer({ size, usage: USAGE.mapRead | USAGE.copyTarget });
    try {
      times.startMs = nowMs();
      writeTokens(replay.staging, replay.plan.inputs["inputs"], inputs);
      submit(replay, (encoder) =>
        encoder.copyBufferToBuffer(replay.bufferAt(place), place.offset + 4 * start, target, 0, size),
      );
      await target.mapAsync(MAP_READ);
      const values = new Float32Array(target.getMappedRange().slice(0));
      arrived(replay);
      return values;
    } finally {
      target.destroy();
    }
  };

  const whole: WgslEngine = {
    backend: "webgpu",
    lastStep: () => ({
      hostMs: times.submittedMs - times.startMs,
      waitMs: times.endMs - times.submittedMs,
      submits: times.submits,
    }),
    lastStepMs: () => times.endMs - times.startMs,
    replayFor,
    load: (theta) => {
      if (theta.length !== layout.length)
        throw new RangeError(`θ has ${theta.length} values, the layout ${layout.length}`);
      for (const [i, { start, end }] of segments.entries()) {
        queue.writeBuffer(params[i]!, 0, theta, start, end - start);
      }
      isLoaded = true;
      return Promise.resolve();
    },

    gradient: (batch, gradient) => gradientOf(batch, gradient, storage),
    ...(encoder && { encodedGradient: (batch, payload) => encodedGradientOf(encoder, batch, payload, storage) }),

    loss: async (batch): Promise<Loss> => {
      const tokens = checkBatch(spec, batch);
      const replay = readyFor("loss", batch, "f32") ?? (await replayFor("loss", batch.batchSize));
      begin(replay, batch, [], copyLoss);
      await readback[last]!.mapAsync(MAP_READ, lossOffset, 4);
      const lossSum = lossFrom(readback[last]!, lossOffset);
      readback[last]!.unmap();
      arrived(replay);
      return { lossSum, tokens };
    },

    logits: async (inputs, batchSize) => {
      checkInputs(spec, inputs, batchSize);
      return logitsOf(inputs, batchSize, [0, inputs.length * spec.vocabulary]);
    },

    logitsAt: async (inputs, position) => {
      checkInputs(spec, inputs, 1);
      return logitsOf(inputs, 1, [position * spec.vocabulary, (position + 1) * spec.vocabulary]);
    },

    bindingOf: ({ offset, size }) => {
      const place = placeIn(segments, offset);
      return { buffer: params[place.buffer]!, offset: place.offset, size: 4 * size };
    },

    dispose: async () => {
      latest = undefined;
      for (const replay of replays.values()) (await replay).dispose();
      replays.clear();
      for (const buffer of owned) buffer.destroy();
      encoder?.dispose();
    },
  };
  let fitting: Engine = whole;
  /** A batch that does not fit the device goes in halves, from then on. */
  const fit = async (batch: Batch, compute: (fitting: Engine) => Promise<Loss>): Promise<Loss> => {
    try {
      return await compute(fitting);
    } catch (error) {
      const tried = Math.min(most, batch.batchSize);
      if (!(error instanceof OutOfMemory) || !onSmallerBatch || tried === 1) throw error;
      most = Math.ceil(tried / 2);
      fitting = inMicroBatches(whole, most);
      onSmallerBatch(most);
      return fit(batch, compute);
    }
  };
  const fits = (batch: Batch): boolean => readyFor("gradient", batch, storage) !== undefined;
  return {
    ...whole,
    // What has its buffers fits.
    gradient: (batch, target) =>
      fits(batch) ? fitting.gradient(batch, target) : fit(batch, (fitting) => fitting.gradient(batch, target)),
    ...(encoder && {
      encodedGradient: (batch, payload) => {
        const encode = (fitting: Engine): Promise<Loss> => fitting.encodedGradient!(batch, payload);
        return fits(batch) ? encode(fitting) : fit(batch, encode);
      },
    }),
    lastStepMs: () => fitting.lastStepMs?.() ?? 0,
  };
}

/** Null where there is no memory for it: then the gradient is read back whole, and encoded here. */
async function withinMemory(
  device: GPUDevice,
  create: () => Promise<GradientEncoder>,
): Promise<GradientEncoder | null> {
  device.pushErrorScope("out-of-memory");
  const encoder = await create();
  if ((await device.popErrorScope()) === null) return encoder;
  encoder.dispose();
  return null;
}

/** One that is not finite makes the sum so; f32 that are finite never do, in f64. */
function allFinite(lossSum: number, gradient: Float32Array): boolean {
  let sum = lossSum;
  for (let i = 0; i < gradient.length; i++) sum += gradient[i]!;
  return Number.isFinite(sum);
}

function lossFrom(buffer: GPUBuffer, offset: number): number {
  return new Float32Array(buffer.getMappedRange(offset, 4))[0] ?? NaN;
}

/** GPUMapMode.READ */
const MAP_READ = 1;
