/**
 * @file Chooses what computes in this browser: WebGPU (the compiled step, then tfjs op by op) → WebGL → WASM → CPU, the first that
 * works. Each one passed over is named with its reason [I7]; each is downloaded only when it is tried, and tfjs with the first that needs it.
 */
import type { Codec } from "../shared/codec/codec.ts";
import type { Engine } from "../shared/engine/engine.ts";
import { NoAdapter } from "../shared/engine/wgsl/device.ts";
import type { KindOfKernel } from "../shared/engine/wgsl/kernelTimes.ts";
import type { Storage } from "../shared/engine/wgsl/variant.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import type { Fallback } from "../shared/wire/protocol.ts";
import type { EngineChoice, TfjsBackend } from "./messages.ts";
import type { GraphSource } from "./stepGraphs.ts";

/** Best first. */
export const backends: readonly TfjsBackend[] = ["webgpu", "webgl", "wasm", "cpu"];

export type StartedBackend = {
  /** In the browser's words: "nvidia ampere". */
  readonly device: string;
  /** The first error that the device reported without anybody having asked, or null. */
  readonly fault: () => string | null;
  /** Resolves with the reason when the device goes away; stays pending otherwise. */
  readonly lost: Promise<string>;
  /** What each kind of kernel takes in a step of so many samples, by the device's clock; not there where it has none. */
  readonly timeKernels?: (samples: number) => Promise<readonly KindOfKernel[]>;
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
  batchSize,
  storage = "f32",
  codec = "f32",
  force,
  avoid,
  graphs = null,
  onCompiled = () => {},
}: {
  readonly spec: ModelSpec;
  readonly layout: ParamLayout;
  /** Samples of a usual step: variants of the compiled one are tried on it. */
  readonly batchSize: number;
  /** What the compiled step may keep activations as. */
  readonly storage?: Storage;
  /** How gradients travel: the compiled step encodes some itself. */
  readonly codec?: Codec;
  /** Where the coordinator's traced steps come from; null: there is no coordinator, and the model is traced here. */
  readonly graphs?: GraphSource | null;
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
        const { startCompiled } = await import("./backends/compiled.ts");
        const started = await startCompiled({ spec, layout, batchSize, storage, codec, graphs }, onCompiled);
        fallbacks.push(...started.refused.map((reason) => ({ backend, reason: COMPILED + reason })));
        return { ...started, isCompiled: true, fallbacks };
      } catch (error) {
        // Without an adapter tfjs says the same in a moment.
        if (!(error instanceof NoAdapter)) fallbacks.push({ backend, reason: COMPILED + reasonOf(error) });
      }
    }
    try {
      const { startTfjs } = await import("./tfjs.ts");
      return { ...(await startTfjs(backend, { spec, layout }, onCompiled)), isCompiled: false, fallbacks };
    } catch (error) {
      fallbacks.push({ backend, reason: reasonOf(error) });
    }
  }
  throw new Error(`nothing here can compute: ${fallbacks.map((f) => `${f.backend}: ${f.reason}`).join("; ")}`);
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 280);
}
