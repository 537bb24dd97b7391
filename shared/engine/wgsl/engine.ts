/**
 * @file The engine over compiled plans: θ and gradients in arenas on the device, a step one upload, a few hundred calls to record
 * it, one read-back. Knows neither tfjs nor the model's code: plans come from `planFor`.
 */
import { streamKey } from "../../numerics/rng.ts";
import type { ParamLayout, TensorSlot } from "../../numerics/layout.ts";
import type { ModelSpec } from "../../model/spec.ts";
import { checkBatch, checkInputs, dropoutSites } from "../batch.ts";
import type { Batch, Engine, Loss } from "../engine.ts";
import { inMicroBatches } from "../microBatch.ts";
import type { StepKind } from "../stepKind.ts";
import { ALIGNMENT_OF_LOSS, arenaSegments, placeIn } from "./arenas.ts";
import type { OpenDevice } from "./device.ts";
import { limitsOf } from "./device.ts";
import { KEYS, SEGMENTS } from "./names.ts";
import type { Place, Plan, PlanLimits } from "./plan.ts";
import { createReplay, OutOfMemory, type Replay, submitEnds, USAGE } from "./replay.ts";
import { writeSegments } from "./segments.ts";
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
  logitsOnly = false,
}: WgslEngineOptions): Promise<WgslEngine> {
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

  const replays = new Map<string, Promise<Replay>>();
  const sites = dropoutSites(spec).map(({ name }) => name);
  let isLoaded = false;
  let flopsPerMs = FIRST_FLOPS_PER_MS;
  /** Samples that are tried at once. */
  let most = Infinity;
  let overflows = 0;
  let times: StepTimes = { hostMs: 0, waitMs: 0, submits: 0 };

  const replayFor = async (
    kind: StepKind,
    batchSize: number,
    stored = kind === "gradient" ? storage : "f32",
  ): Promise<Replay> => {
    if (logitsOnly && kind !== "logits") throw new Error(`an engine for logits only was asked for the ${kind}`);
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
    return created.catch((error: unknown) => {
      replays.delete(key);
      throw error;
    });
  };

  /** Records and submits the step, and the copies that `finish` asks for with its last part. */
  const submit = (replay: Replay, finish: (encoder: GPUCommandEncoder) => void): number => {
    const ends = submitEnds(replay.plan.dispatches, flopsPerMs);
    let from = 0;
    for (let i = 0; i < ends.length; i++) {
      const end = ends[i]!;
      const encoder = device.createCommandEncoder();
      replay.record(encoder, from, end);
      if (i === ends.length - 1) finish(encoder);
      device.queue.submit([encoder.finish()]);
      from = end;
    }
    return ends.length;
  };

  const run = async (
    replay: Replay,
    fill: (staging: Int32Array, plan: Plan) => void,
    finish: (encoder: GPUCommandEncoder) => void,
    read: () => Promise<void>,
  ): Promise<void> => {
    if (!isLoaded) throw new Error("load() was not called before computing");
    const startMs = nowMs();
    fill(replay.staging, replay.plan);
    replay.upload();
    const submits = submit(replay, finish);
    const submittedMs = nowMs();
    await read();
    const found = fault();
    if (found !== null) throw new Error(found);
    const endMs = nowMs();
    times = { hostMs: submittedMs - startMs, waitMs: endMs - submittedMs, submits };
    flopsPerMs = replay.work / Math.max(endMs - startMs, 0.01);
  };

  const lastSize = 4 * (segments.at(-1)!.end - segments.at(-1)!.start);
  const last = segments.length - 1;

  const gradientOf = async (batch: Batch, gradient: Float32Array, stored: Storage): Promise<number> => {
    const replay = await replayFor("gradient", batch.batchSize, stored);
    let loss = NaN;
    await run(
      replay,
      (staging, plan) => fillInputs(staging, plan, spec, sites, batch),
      (encoder) => {
        for (const [i, size] of bytes.entries()) encoder.copyBufferToBuffer(gradients[i]!, 0, readback[i]!, 0, size);
      },
      async () => {
        await Promise.all(readback.map((buffer) => buffer.mapAsync(MAP_READ)));
        for (const [i, { start, end }] of segments.entries()) {
          gradient.set(new Float32Array(readback[i]!.getMappedRange(0, 4 * (end - start))), start);
        }
        loss = lossFrom(readback[last]!, lastSize);
        for (const buffer of readback) buffer.unmap();
      },
    );
    return loss;
  };

  /** Elements [start, end) of the logits. */
  const logitsOf = async (
    inputs: Int32Array,
    batchSize: number,
    [start, end]: readonly [number, number],
  ): Promise<Float32Array> => {
    const replay = await replayFor("logits", batchSize);
    const place = replay.plan.outputs["logits"];
    if (!place) throw new Error("the plan for logits has no logits");
    const size = 4 * (end - start);
    const target = device.createBuffer({ size, usage: USAGE.mapRead | USAGE.copyTarget });
    try {
      let values = new Float32Array();
      await run(
        replay,
        (staging, plan) => put(staging, plan.inputs["inputs"], inputs),
        (encoder) => encoder.copyBufferToBuffer(replay.bufferAt(place), place.offset + 4 * start, target, 0, size),
        async () => {
          await target.mapAsync(MAP_READ);
          values = new Float32Array(target.getMappedRange().slice(0));
        },
      );
      return values;
    } finally {
      target.destroy();
    }
  };

  const whole: WgslEngine = {
    backend: "webgpu",
    lastStep: () => times,
    lastStepMs: () => times.hostMs + times.waitMs,
    replayFor,
    load: (theta) => {
      if (theta.length !== layout.length)
        throw new RangeError(`θ has ${theta.length} values, the layout ${layout.length}`);
      for (const [i, { start, end }] of segments.entries()) {
        device.queue.writeBuffer(params[i]!, 0, theta, start, end - start);
      }
      isLoaded = true;
      return Promise.resolve();
    },

    gradient: async (batch, gradient): Promise<Loss> => {
      const tokens = checkBatch(spec, batch);
      const lossSum = await gradientOf(batch, gradient, storage);
      if (storage === "f32" || allFinite(lossSum, gradient)) return { lossSum, tokens };
      // What is beyond f16. Always the same way, so that the same batch has the same bits whatever came before it.
      onOverflow?.(++overflows);
      return { lossSum: await gradientOf(batch, gradient, "f32"), tokens };
    },

    loss: async (batch): Promise<Loss> => {
      const tokens = checkBatch(spec, batch);
      const replay = await replayFor("loss", batch.batchSize);
      let lossSum = NaN;
      await run(
        replay,
        (staging, plan) => fillInputs(staging, plan, spec, [], batch),
        (encoder) => encoder.copyBufferToBuffer(gradients[last]!, lastSize, readback[last]!, lastSize, 4),
        async () => {
          await readback[last]!.mapAsync(MAP_READ, lastSize, 4);
          lossSum = lossFrom(readback[last]!, lastSize);
          readback[last]!.unmap();
        },
      );
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
      for (const replay of replays.values()) (await replay).dispose();
      replays.clear();
      for (const buffer of owned) buffer.destroy();
    },
  };
  let fitting: Engine = whole;
  /** A batch that does not fit the device goes in halves, from then on. */
  const gradient: Engine["gradient"] = async (batch, target) => {
    try {
      return await fitting.gradient(batch, target);
    } catch (error) {
      const tried = Math.min(most, batch.batchSize);
      if (!(error instanceof OutOfMemory) || !onSmallerBatch || tried === 1) throw error;
      most = Math.ceil(tried / 2);
      fitting = inMicroBatches(whole, most);
      onSmallerBatch(most);
      return gradient(batch, target);
    }
  };
  return { ...whole, gradient, lastStepMs: () => fitting.lastStepMs?.() ?? 0 };
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

function fillInputs(
  staging: Int32Array,
  { inputs: places }: Plan,
  { vocabulary }: ModelSpec,
  sites: readonly string[],
  batch: Batch,
): void {
  // prettier-ignore
  put(staging, places["inputs"], batch.inputs);
  put(staging, places["targets"], batch.targets);
  const segments = places[`${SEGMENTS}inputs`];
  if (segments) writeSegments(staging.subarray(segments.offset / 4), batch.inputs, vocabulary);
  if (sites.length === 0) return;
  if (!batch.dropout) throw new Error("the model has dropout, but the batch names no masks");
  const { seed, step, samples } = batch.dropout;
  if (samples.length !== batch.batchSize) {
    throw new RangeError(`${samples.length} dropout samples for a batch of ${batch.batchSize}`);
  }
  for (const [site, name] of sites.entries()) {
    const place = places[KEYS + name];
    if (!place) throw new Error(`the plan has no keys for dropout at "${name}"`);
    for (const [b, sample] of samples.entries()) staging[place.offset / 4 + b] = streamKey(seed, step, sample, site);
  }
}

function put(staging: Int32Array, place: Place | undefined, values: Int32Array): void {
  if (!place || place.bytes !== 4 * values.length) throw new Error(`the plan has no place for ${values.length} tokens`);
  staging.set(values, place.offset / 4);
}
