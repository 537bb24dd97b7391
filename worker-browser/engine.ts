/**
 * @file Chooses what computes in this browser: WebGPU (the compiled step, then tfjs op by op) → WebGL → WASM → CPU, the first that proves itself on a small model.
 * Each one passed over is named with its reason [I7]; each is downloaded only when it is tried.
 */
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../shared/engine/eager.ts";
import type { Engine } from "../shared/engine/engine.ts";
import { NoAdapter } from "../shared/engine/wgsl/device.ts";
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

export type ChosenEngine = StartedBackend & {
  readonly engine: Engine;
  readonly isCompiled: boolean;
  readonly fallbacks: readonly Fallback[];
};

/** Begins the reason of what befell the compiled step only: the same backend goes on op by op. */
export const COMPILED = "compiled step: ";

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
    const known = avoid.filter((fallback) => fallback.backend === backend);
    const avoided = known.find(({ reason }) => !reason.startsWith(COMPILED));
    if (avoided !== undefined) {
      fallbacks.push(avoided);
      continue;
    }
    if (backend === "webgpu" && "gpu" in navigator) {
      try {
        if (known[0] !== undefined) throw new Error(known[0].reason.slice(COMPILED.length));
        await starters.cpu(onCompiled);
        const { startCompiled } = await import("./backends/compiled.ts");
        return { ...(await startCompiled({ spec, layout }, onCompiled)), isCompiled: true, fallbacks };
      } catch (error) {
        // Without an adapter tfjs says the same in a moment.
        if (!(error instanceof NoAdapter)) fallbacks.push({ backend, reason: COMPILED + reasonOf(error) });
      }
    }
    try {
      const started = await startBackend(backend, onCompiled);
      return { ...started, engine: await createEagerEngine({ spec, layout, backend }), isCompiled: false, fallbacks };
    } catch (error) {
      fallbacks.push({ backend, reason: reasonOf(error) });
      // Who failed before it was loaded is not there to be removed, and tfjs throws at that.
      if (tf.findBackendFactory(backend) !== null) tf.removeBackend(backend);
    }
  }
  throw new Error(`nothing here can compute: ${fallbacks.map((f) => `${f.backend}: ${f.reason}`).join("; ")}`);
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 280);
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
