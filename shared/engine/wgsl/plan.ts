/**
 * @file The compiler: clean-up → split → fusion → storage → kernels → memory, giving a plan. A plan is data (JSON), so it can be
 * made on one machine and run on another, which then needs neither tfjs nor the model's code.
 */
import { sizeOf, type ParamLayout } from "../../numerics/layout.ts";
import type { Graph, ValueId } from "../graph.ts";
import { GRADIENT, PARAM } from "../stepKind.ts";
import { ALIGNMENT_OF_LOSS, arenaSegments, placeIn, slotNamed } from "./arenas.ts";
import { cleanUp } from "./cleanUp.ts";
import { fuse } from "./fuse.ts";
import { type FusedGraph } from "./fused.ts";
import type { Kernel } from "./kernels/kernel.ts";
import { lowerOp } from "./lower.ts";
import { aligned, type Lifetime, planMemory } from "./memory.ts";
import { parseSlice } from "./names.ts";
import type { ShaderContext, ShaderLimits } from "./shader.ts";
import { split } from "./split.ts";
import { halfValues, shareStorage } from "./storage.ts";
import { PLAIN, type Variant } from "./variant.ts";

export type PlanLimits = ShaderLimits & { readonly maxBindingBytes: number; readonly maxBufferBytes: number };

/** WebGPU's defaults: what every device has. */
export const DEFAULT_LIMITS: PlanLimits = {
  maxBindings: 8,
  maxWorkgroupStorageBytes: 16 * 1024,
  maxInvocations: 256,
  maxBindingBytes: 128 * 2 ** 20,
  maxBufferBytes: 256 * 2 ** 20,
};

/** Which buffer: those of θ and gradients belong to the engine, the others to the plan. */
export type Arena = "params" | "gradients" | "inputs" | "activations";

export type Place = {
  readonly arena: Arena;
  /** Number of the buffer in its arena. */
  readonly buffer: number;
  /** Bytes. */
  readonly offset: number;
  readonly bytes: number;
};

export type Dispatch = {
  readonly name: string;
  /** Ops that ride on the kernel. */
  readonly fused: readonly string[];
  /** Index into the plan's pipelines. */
  readonly pipeline: number;
  readonly bindings: readonly Place[];
  readonly workgroups: readonly [number, number, number];
  readonly flops: number;
  readonly bytes: number;
};

export type Plan = {
  /** WGSL modules, each with an entry point `main`; equal kernels are one. */
  readonly pipelines: readonly string[];
  readonly dispatches: readonly Dispatch[];
  /** By name: tokens, targets, segments, keys; all in one buffer. */
  readonly inputs: Readonly<Record<string, Place>>;
  /** `loss` lies behind the last gradient; `logits`, where asked for, among the activations. */
  readonly outputs: Readonly<Record<string, Place>>;
  readonly inputBytes: number;
  /** Bytes of each buffer of activations, and the most that is alive at once. */
  readonly activationBytes: readonly number[];
  readonly lowerBoundBytes: number;
  /** For inspection: where values that live during the step are, and from which dispatch to which. */
  readonly lifetimes: readonly (Lifetime & { readonly buffer: number; readonly offset: number })[];
};

export type PlanOptions = {
  readonly layout: ParamLayout;
  readonly limits: PlanLimits;
  readonly dropout: number;
  /** What the device has beyond the plain step. */
  readonly variant?: Variant;
  /** With f16: what gradients are multiplied by on their way, a power of two. */
  readonly lossScale?: number;
};

/**
 * Of a sum over tokens, a row's gradient of the logits is at most 1 and, with a vocabulary of 50,000, mostly 2e-5: with this factor both
 * are far from the ends of f16, 65,504 and 6e-5 (6e-8 with fewer digits).
 */
export const LOSS_SCALE = 1024;

/** @throws Error for what has no kernel, or does not fit the limits. */
export function compile(
  graph: Graph,
  { layout, limits, dropout, variant = PLAIN, lossScale = LOSS_SCALE }: PlanOptions,
): Plan {
  const fused = fuse(split(cleanUp(graph), limits.maxBindingBytes), limits);
  const fixed = fixedPlaces(fused, layout, limits);
  const isFixed = (id: ValueId): boolean => fixed.places.has(id);
  const halves = variant.storage === "f16" ? halfValues(fused, isFixed) : new Set<ValueId>();
  const { storageOf } = shareStorage(fused, isFixed, halves);
  const isHalf = (id: ValueId): boolean => halves.has(storageOf(id));
  const gradients = new Set(
    Object.entries(fused.outputs).flatMap(([name, id]) => (name.startsWith(GRADIENT) ? [id] : [])),
  );
  const context: ShaderContext = {
    values: fused.values,
    constants: fused.constants,
    storageOf,
    isReadOnly: (id) => ["params", "inputs"].includes(fixed.places.get(storageOf(id))?.arena ?? ""),
    dropout,
    limits,
    subgroups: variant.subgroups,
    alone: variant.alone,
    isHalf,
    lossScale: variant.storage === "f16" ? lossScale : 1,
    isGradient: (id) => gradients.has(storageOf(id)),
  };
  const kernels = fused.ops.flatMap((op) => lowerOp(op, context));
  // A binding is a multiple of 4 bytes.
  const bytesOf = (id: ValueId) => 4 * Math.ceil(sizeOf(fused.values[id]?.shape ?? []) / (isHalf(id) ? 2 : 1));
  const lifetimes = lifetimesOf(kernels, { fused, storageOf, isFixed, bytesOf });
  const memory = planMemory(lifetimes, limits.maxBufferBytes);
  const placeOf = (id: ValueId): Place => {
    const storage = storageOf(id);
    const known = fixed.places.get(storage);
    if (known) return known;
    const place = memory.places.get(storage);
    if (!place) throw new Error(`value ${id} has no place`);
    return { arena: "activations", ...place, bytes: bytesOf(id) };
  };
  const numbers = new Map<string, number>();
  const dispatches = kernels.map(({ wgsl, bindings, ...rest }): Dispatch => {
    const pipeline = numbers.get(wgsl) ?? numbers.size;
    numbers.set(wgsl, pipeline);
    return { fused: [], ...rest, pipeline, bindings: bindings.map(({ value }) => placeOf(value)) };
  });
  const named = (entries: [string, ValueId][]) => Object.fromEntries(entries.map(([name, id]) => [name, placeOf(id)]));
  return {
    pipelines: [...numbers.keys()],
    dispatches,
    inputs: named(Object.entries(fused.inputs).filter(([name]) => !name.startsWith(PARAM))),
    outputs: named(Object.entries(fused.outputs).filter(([name]) => !name.startsWith(GRADIENT))),
    inputBytes: fixed.inputBytes,
    activationBytes: memory.buffers,
    lowerBoundBytes: memory.lowerBound,
    lifetimes: lifetimes.map((lifetime) => ({
      ...lifetime,
      ...(memory.places.get(lifetime.id) ?? { buffer: 0, offset: 0 }),
    })),
  };
}

/** Parameters and gradients in layout order, what is uploaded one after another, the loss behind the last gradient. */
function fixedPlaces(
  { values, inputs, outputs }: FusedGraph,
  layout: ParamLayout,
  { maxBufferBytes }: PlanLimits,
): { places: ReadonlyMap<ValueId, Place>; inputBytes: number } {
  const segments = arenaSegments(layout, maxBufferBytes - ALIGNMENT_OF_LOSS);
  const places = new Map<ValueId, Place>();
  const bytesOf = (id: ValueId) => 4 * sizeOf(values[id]?.shape ?? []);
  const inArena = (arena: Arena, name: string, id: ValueId): void => {
    const { tensor, offset } = parseSlice(name);
    const element = slotNamed(layout, tensor).offset + offset;
    places.set(id, { arena, ...placeIn(segments, element), bytes: bytesOf(id) });
  };
  let inputBytes = 0;
  for (const [name, id] of Object.entries(inputs)) {
    if (name.startsWith(PARAM)) {
      inArena("params", name.slice(PARAM.length), id);
      continue;
    }
    places.set(id, { arena: "inputs", buffer: 0, offset: inputBytes, bytes: bytesOf(id) });
    inputBytes += aligned(bytesOf(id));
  }
  for (const [name, id] of Object.entries(outputs)) {
    if (name.startsWith(GRADIENT)) inArena("gradients", name.slice(GRADIENT.length), id);
  }
  const loss = outputs["loss"];
  if (loss !== undefined) places.set(loss, lossPlace(segments));
  return { places, inputBytes };
}

function lossPlace(segments: readonly { start: number; end: number }[]): Place {
  const last = segments.at(-1) ?? { start: 0, end: 0 };
  return { arena: "gradients", buffer: segments.length - 1, offset: 4 * (last.end - last.start), bytes: 4 };
}

function lifetimesOf(
  kernels: readonly Kernel[],
  {
    fused,
    storageOf,
    isFixed,
    bytesOf,
  }: {
    fused: FusedGraph;
    storageOf: (id: ValueId) => ValueId;
    isFixed: (id: ValueId) => boolean;
    bytesOf: (id: ValueId) => number;
  },
): Lifetime[] {
  const spans = new Map<ValueId, { from: number; to: number }>();
  const touch = (id: ValueId, at: number): void => {
    const storage = storageOf(id);
    if (isFixed(storage)) return;
    const { from = at } = spans.get(storage) ?? {};
    spans.set(storage, { from, to: at });
  };
  for (const [i, { bindings }] of kernels.entries()) for (const { value } of bindings) touch(value, i);
  for (const id of Object.values(fused.outputs)) touch(id, kernels.length);
  return [...spans].map(([id, span]) => ({ id, bytes: bytesOf(id), ...span }));
}
