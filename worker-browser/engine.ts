/**
 * @file Chooses what computes in this browser: WebGPU → WebGL → WASM → CPU, the first that proves itself on a small model.
 * Each one passed over is named with its reason [I7]; each is downloaded only when it is tried.
 */
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Engine } from "../shared/engine/engine.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import type { Fallback } from "../shared/wire/protocol.ts";
import type { EngineChoice, TfjsBackend } from "./messages.ts";
import { selfCheck } from "./selfCheck.ts";

/** Best first. */
export const backends: readonly TfjsBackend[] = ["webgpu", "webgl", "wasm", "cpu"];

export type StartedBackend = {
  /** In the browser's words: "nvidia ampere". */
  readonly device: string;
  /** The first error that the device reported without anybody having asked, or null. */
  readonly fault: () => string | null;
  /** Resolves with the reason when the device goes away; stays pending otherwise. */
  readonly lost: Promise<string>;
};

export type ChosenEngine = StartedBackend & { readonly engine: Engine; readonly fallbacks: readonly Fallback[] };

/** @throws Error with every reason when no backend works, or that there is none of the name asked for. */
export async function chooseEngine({
  spec,
  layout,
  force,
  avoid,
  onCompiled = () => {},
}: {
  readonly spec: ModelSpec;
  readonly layout: ParamLayout;
  /** How many GPU programs have been compiled: the first step waits for them. */
  readonly onCompiled?: (programs: number) => void;
} & Omit<EngineChoice, "rows">): Promise<ChosenEngine> {
  const fallbacks: Fallback[] = [];
  const candidates = force === null ? backends : backends.filter((backend) => backend === force);
  if (candidates.length === 0) throw new Error(`there is no backend "${force}": must be one of ${backends.join(", ")}`);
  for (const backend of candidates) {
    const avoided = avoid.find((fallback) => fallback.backend === backend);
    if (avoided !== undefined) {
      fallbacks.push(avoided);
      continue;
    }
    try {
      const started = await startBackend(backend, onCompiled);
      return { ...started, engine: await createEagerEngine({ spec, layout, backend }), fallbacks };
    } catch (error) {
      fallbacks.push({ backend, reason: (error instanceof Error ? error.message : String(error)).slice(0, 300) });
      // Who failed before it was loaded is not there to be removed, and tfjs throws at that.
      if (tf.findBackendFactory(backend) !== null) tf.removeBackend(backend);
    }
  }
  throw new Error(`nothing here can compute: ${fallbacks.map((f) => `${f.backend}: ${f.reason}`).join("; ")}`);
}

/** Registers the backend with tfjs and lets it prove itself. @throws Error with the reason why it cannot be used. */
export async function startBackend(
  backend: TfjsBackend,
  onCompiled: (programs: number) => void = () => {},
): Promise<StartedBackend> {
  const started = await starters[backend](onCompiled);
  // The cpu backend is plain JavaScript, slow and simple: the reference that the others must agree with.
  if (backend === "cpu") return started;
  await starters.cpu(onCompiled);
  await selfCheck(backend);
  const fault = started.fault();
  if (fault !== null) throw new Error(fault);
  return started;
}

const starters: Readonly<Record<TfjsBackend, (onCompiled: (programs: number) => void) => Promise<StartedBackend>>> = {
  webgpu: async (onCompiled) => {
    if (!("gpu" in navigator)) {
      throw new Error(
        isSecureContext ? "this browser has no WebGPU" : "browsers offer WebGPU only on https pages and on localhost",
      );
    }
    return (await import("./backends/webgpu.ts")).start(onCompiled);
  },
  webgl: async () => (await import("./backends/webgl.ts")).start(),
  wasm: async () => (await import("./backends/wasm.ts")).start(),
  cpu: async () => (await import("./backends/cpu.ts")).start(),
};
