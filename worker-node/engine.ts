/**
 * @file Chooses the engine of a Node worker: a GPU through WebGPU or through ONNX Runtime, else ONNX Runtime on the processor, else tfjs
 * in WebAssembly, else tfjs in JavaScript. No step down is silent.
 */
import { createRequire } from "node:module";
import path from "node:path";
import type { Codec } from "../shared/codec/codec.ts";
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Backend, Engine } from "../shared/engine/engine.ts";
import { examinationBatch, examinationParams } from "../shared/engine/examination.ts";
import type { Storage } from "../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import { fastestOf } from "./fastest.ts";
import { type Provider, providersHere, worthTrying } from "./providers.ts";

export const enginePreferences = ["auto", "webgpu", "onnx", "wasm", "cpu"] as const;
export type EnginePreference = (typeof enginePreferences)[number];

/** An engine that was tried and did not start, and why. */
export type Fallback = { readonly backend: Backend; readonly reason: string };

type NodeBackend = Exclude<EnginePreference, "auto">;

/** One way to compute here. */
type Candidate = { readonly backend: NodeBackend; readonly provider?: Provider };

export type EngineOptions = {
  readonly spec: ModelSpec;
  readonly layout: ParamLayout;
  readonly threads: number;
  readonly preference: EnginePreference;
  /** Of ONNX Runtime, where it is asked for by name. */
  readonly provider?: Provider;
  /**
   * Samples of a usual step: where there is more than a processor, engines are timed on one. Without it the first that starts is taken,
   * which is enough for who takes no training steps.
   */
  readonly batchSize?: number;
  /** What a GPU may keep activations as; f32 unless said otherwise. */
  readonly storage?: Storage;
  /** How gradients travel, for engines that encode them; f32 unless said otherwise. */
  readonly codec?: Codec;
  /** Whether `auto` may take a GPU. */
  readonly gpu?: boolean;
  /** By their names: what is passed over, and why. */
  readonly avoid?: readonly { readonly name: string; readonly reason: string }[];
};

/**
 * The preferred engine, or with "auto" the fastest that works. `name`: what it is, for `avoid`. @throws Error when a named one does
 * not start, or none does.
 */
export async function createNodeEngine(
  options: EngineOptions,
): Promise<{ engine: Engine; name: string; fallbacks: Fallback[] }> {
  const { preference, provider = "cpu", avoid = [], gpu = true } = options;
  const all = preference === "auto" ? await candidates(gpu) : [[{ backend: preference, provider }]];
  const groups = options.batchSize === undefined ? all.flat().map((candidate) => [candidate]) : all;
  const fallbacks: Fallback[] = [];
  for (const group of groups) {
    const isAvoided = (candidate: Candidate) => avoid.some(({ name }) => name === nameOf(candidate));
    const passedOver = group.filter(isAvoided);
    for (const candidate of passedOver) {
      fallbacks.push(fallback(candidate, avoid.find(({ name }) => name === nameOf(candidate))?.reason ?? ""));
    }
    const contenders = group.filter((candidate) => !isAvoided(candidate));
    if (contenders.length === 0) continue;
    try {
      const { fastest, name, others } = await choose(contenders, options);
      for (const other of others) fallbacks.push(fallback(byName(contenders, other.name), other.reason));
      const refused = fastest.refused.map((reason) => fallback(byName(contenders, name), reason));
      return { engine: fastest.engine, name, fallbacks: [...fallbacks, ...refused] };
    } catch (error) {
      if (preference !== "auto") throw error;
      const reason = error instanceof Error ? error.message : String(error);
      for (const candidate of contenders) fallbacks.push(fallback(candidate, reason));
    }
  }
  throw new Error(`no engine started: ${fallbacks.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ")}`);
}

/**
 * Best first, those that only measuring can tell apart together. A machine without a GPU has not fallen back; one whose GPU fails has,
 * and that is said.
 */
async function candidates(gpu: boolean): Promise<Candidate[][]> {
  const rest: Candidate[][] = [[{ backend: "wasm" }], [{ backend: "cpu" }]];
  if (!gpu) return [[{ backend: "onnx" }], ...rest];
  const hasGpu = await (await import("./webgpuEngine.ts")).hasGpu();
  const onnx = worthTrying(await providersHere().catch(() => []), hasGpu);
  const compiled: Candidate[] = hasGpu ? [{ backend: "webgpu" }] : [];
  return [[...compiled, ...onnx.map((provider): Candidate => ({ backend: "onnx", provider }))], ...rest];
}

/** The only one, or the fastest. */
async function choose(
  contenders: readonly Candidate[],
  { spec, layout, threads, batchSize = 1, storage = "f32", codec = "f32" }: EngineOptions,
): Promise<Awaited<ReturnType<typeof fastestOf<Started>>>> {
  const startOf = (candidate: Candidate): Promise<Started> =>
    start[candidate.backend]({
      spec,
      layout,
      threads,
      batchSize,
      storage,
      codec,
      provider: candidate.provider ?? "cpu",
    });
  const [only] = contenders;
  if (contenders.length === 1 && only) return { fastest: await startOf(only), name: nameOf(only), others: [] };
  const batch = examinationBatch(spec, batchSize);
  const gradient = new Float32Array(layout.length);
  return fastestOf(
    contenders.map((candidate) => ({ name: nameOf(candidate), start: () => startOf(candidate) })),
    {
      time: async ({ engine }) => {
        await engine.load(examinationParams(layout));
        // The first step compiles.
        await engine.gradient(batch, gradient);
        const startMs = performance.now();
        await engine.gradient(batch, gradient);
        return performance.now() - startMs;
      },
      giveUp: ({ engine }) => engine.dispose(),
    },
  );
}

/** "onnx", "onnx on cuda". */
function nameOf({ backend, provider = "cpu" }: Candidate): string {
  return provider === "cpu" ? backend : `${backend} on ${provider}`;
}

function byName(candidates: readonly Candidate[], name: string): Candidate {
  const found = candidates.find((candidate) => nameOf(candidate) === name);
  if (!found) throw new Error(`there is no engine "${name}"`);
  return found;
}

function fallback({ backend, provider = "cpu" }: Candidate, reason: string): Fallback {
  return { backend, reason: provider === "cpu" ? reason : `on ${provider}: ${reason}` };
}

/** `refused`: what the backend could do besides, and why it does not. */
type Started = { readonly engine: Engine; readonly refused: readonly string[] };

type Start = (options: {
  spec: ModelSpec;
  layout: ParamLayout;
  threads: number;
  batchSize: number;
  storage: Storage;
  codec: Codec;
  provider: Provider;
}) => Promise<Started>;

/** Imported when tried: each library is large, and one that is missing must not take the others down. */
const start: Readonly<Record<NodeBackend, Start>> = {
  webgpu: async (options) => (await import("./webgpuEngine.ts")).createWebgpuEngine(options),
  onnx: async (options) => {
    // ONNX Runtime reports to its makers unless this is set before it is loaded, in the environment of the process.
    process.env["ORT_DISABLE_TELEMETRY"] = "1";
    return alone(await (await import("./onnxEngine.ts")).createOnnxEngine(options));
  },
  wasm: async ({ spec, layout }) => {
    const { setWasmPaths } = await import("@tensorflow/tfjs-backend-wasm");
    const library = createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm");
    setWasmPaths(`${path.dirname(library)}/`);
    return alone(await createEagerEngine({ spec, layout, backend: "wasm" }));
  },
  cpu: async ({ spec, layout }) => {
    await import("@tensorflow/tfjs-backend-cpu");
    return alone(await createEagerEngine({ spec, layout, backend: "cpu" }));
  },
};

function alone(engine: Engine): Started {
  return { engine, refused: [] };
}
