/**
 * @file Chooses the engine of a Node worker: a GPU through WebGPU, else ONNX Runtime, else tfjs in WebAssembly, else tfjs in
 * JavaScript. No step down is silent.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Backend, Engine } from "../shared/engine/engine.ts";
import type { Storage } from "../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";

export const enginePreferences = ["auto", "webgpu", "onnx", "wasm", "cpu"] as const;
export type EnginePreference = (typeof enginePreferences)[number];

/** An engine that was tried and did not start, and why. */
export type Fallback = { readonly backend: Backend; readonly reason: string };

/**
 * The preferred engine, or with "auto" the fastest that starts. @throws Error when a named one does not start, or none does.
 */
export async function createNodeEngine({
  spec,
  layout,
  threads,
  preference,
  batchSize = 1,
  storage = "f32",
  avoid = [],
}: {
  spec: ModelSpec;
  layout: ParamLayout;
  threads: number;
  preference: EnginePreference;
  /** Samples of a usual step: a GPU's variants are tried on one. */
  batchSize?: number;
  /** What a GPU may keep activations as. */
  storage?: Storage;
  /** Backends that are passed over, and why. */
  avoid?: readonly Fallback[];
}): Promise<{ engine: Engine; fallbacks: Fallback[] }> {
  const fallbacks: Fallback[] = [];
  for (const backend of preference === "auto" ? await candidates() : [preference]) {
    const avoided = avoid.find((fallback) => fallback.backend === backend);
    if (avoided !== undefined) {
      fallbacks.push(avoided);
      continue;
    }
    try {
      const { engine, refused } = await start[backend]({ spec, layout, threads, batchSize, storage });
      return { engine, fallbacks: [...fallbacks, ...refused.map((reason) => ({ backend, reason }))] };
    } catch (error) {
      if (preference !== "auto") throw error;
      fallbacks.push({ backend, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  throw new Error(`no engine started: ${fallbacks.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ")}`);
}

/** Best first. A machine without a GPU has not fallen back; one whose GPU fails has, and that is said. */
async function candidates(): Promise<Exclude<EnginePreference, "auto">[]> {
  const hasGpu = await (await import("./webgpuEngine.ts")).hasGpu();
  return [...(hasGpu ? (["webgpu"] as const) : []), "onnx", "wasm", "cpu"];
}

/** `refused`: what the backend could do besides, and why it does not. */
type Started = { readonly engine: Engine; readonly refused: readonly string[] };

type Start = (options: {
  spec: ModelSpec;
  layout: ParamLayout;
  threads: number;
  batchSize: number;
  storage: Storage;
}) => Promise<Started>;

/** Imported when tried: each library is large, and one that is missing must not take the others down. */
const start: Readonly<Record<Exclude<EnginePreference, "auto">, Start>> = {
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
