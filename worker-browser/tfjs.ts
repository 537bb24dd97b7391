/** @file tfjs in this browser, backend by backend: everything that loads tfjs is behind this file, and it is loaded when it is needed. */
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Engine } from "../shared/engine/engine.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import type { StartedBackend } from "./engine.ts";
import type { TfjsBackend } from "./messages.ts";
import { selfCheck } from "./selfCheck.ts";

/** @throws Error with the reason why the backend cannot be used; tfjs has forgotten it by then. */
export async function startTfjs(
  backend: TfjsBackend,
  { spec, layout }: { spec: ModelSpec; layout: ParamLayout },
  onCompiled: (programs: number) => void,
): Promise<StartedBackend & { readonly engine: Engine }> {
  try {
    const started = await startBackend(backend, onCompiled);
    return { ...started, engine: await createEagerEngine({ spec, layout, backend }) };
  } catch (error) {
    // Who failed before it was loaded is not there to be removed, and tfjs throws at that.
    if (tf.findBackendFactory(backend) !== null) tf.removeBackend(backend);
    throw error;
  }
}

/** Registers the backend with tfjs and lets it prove itself. @throws Error with the reason why it cannot be used. */
export async function startBackend(
  backend: TfjsBackend,
  onCompiled: (programs: number) => void = () => {},
): Promise<StartedBackend> {
  const started = await starters[backend](onCompiled);
  // The cpu backend is plain JavaScript, slow and simple: the reference that the others must agree with.
  if (backend === "cpu") return started;
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
