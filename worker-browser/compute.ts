/** @file The compute thread (a dedicated worker): θ, the engine and the shards, behind a message port. */
import type { Engine } from "../shared/engine/engine.ts";
import { createCompute } from "../shared/worker/compute.ts";
import { chooseEngine, COMPILED } from "./engine.ts";
import type { Fallback } from "../shared/wire/protocol.ts";
import type { ComputeToSession, EngineChoice, KernelsMessage, SessionToCompute } from "./messages.ts";
import { inMicroBatches } from "../shared/engine/microBatch.ts";
import { createFetcher } from "./shards.ts";

let choice: EngineChoice = { force: null, avoid: [], rows: null };

/** Often enough to see that something happens. */
const REPORT_DOWNLOAD_MS = 100;

const post = (message: ComputeToSession, transfer: ArrayBuffer[] = []): void => self.postMessage(message, { transfer });

const fetchBytes = createFetcher({
  onProgress: reportDownload(),
  onFetched: (bytes, url) => post({ type: "fetched", bytes, isSnapshot: url.includes("/snapshots/") }),
});

/** Engines whose answer to the examination was wrong, and whether the last one was the compiled step. */
const refused: Fallback[] = [];
let wasCompiled = false;
/** Names the engine that was chosen last. */
let newest = {};

let timeKernels: (() => Promise<KernelsMessage["kernels"]>) | null = null;

const compute = createCompute({
  createEngine: async (run, layout, wrong, url) => {
    // Where only the compiled step was wrong, the same backend goes on op by op.
    for (const { backend, reason } of wrong.slice(refused.length)) {
      refused.push({ backend, reason: wasCompiled ? COMPILED + reason : reason });
    }
    const chosen = await chooseEngine({
      spec: run.model,
      layout,
      batchSize: choice.rows ?? run.unit,
      storage: run.activations ?? "f32",
      codec: run.codec,
      force: choice.force,
      avoid: [...choice.avoid, ...refused],
      graphs: { url, fetchBytes },
      onCompiled: (programs) => post({ type: "warmUp", warmUp: { name: "compile", programs } }),
    }).catch((error: unknown) => {
      post({ type: "unable", reason: error instanceof Error ? error.message : String(error) });
      throw error;
    });
    wasCompiled = chosen.isCompiled;
    const { rows } = choice;
    timeKernels = chosen.timeKernels?.bind(null, rows ?? run.unit) ?? null;
    post({ type: "device", device: chosen.device, timesKernels: timeKernels !== null });
    const { backend } = chosen.engine;
    const broken = (reason: string, rows: number | null): void =>
      post({
        type: "broken",
        backend,
        reason: chosen.isCompiled ? COMPILED + reason : reason,
        outOfMemoryWith: isOutOfMemory(reason) ? rows : null,
      });
    const mine = (newest = {});
    // The device of an engine that was replaced may be the new one's too, or be given up.
    void chosen.lost.then((reason) => mine === newest && broken(reason, null));
    const engine = guarded(chosen.engine, chosen.fault, broken);
    return { engine: rows === null ? engine : inMicroBatches(engine, rows), fallbacks: chosen.fallbacks };
  },
  fetchBytes,
  emit: (event, transfer) => post({ type: "event", event }, transfer),
  nowMs: () => performance.now(),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
});

self.addEventListener("message", ({ data }: MessageEvent<SessionToCompute>) => {
  switch (data.type) {
    case "choice":
      choice = data.choice;
      break;
    case "command":
      compute.command(data.command);
      break;
    case "timeKernels":
      void tellKernels();
      break;
    default:
      data satisfies never;
  }
});

/** Beside the unit in work, whose own time is longer for it once: a step is submitted whole, so neither disturbs the other's numbers. */
async function tellKernels(): Promise<void> {
  const kernels = (await timeKernels?.().catch(() => null)) ?? null;
  post({ type: "kernels", kernels });
}

/** The engine, but nothing it returns is believed once the GPU reported an error: tfjs goes on with garbage. */
function guarded(
  engine: Engine,
  fault: () => string | null,
  broken: (reason: string, rows: number | null) => void,
): Engine {
  const watch = async <T>(work: Promise<T>, rows: number | null = null): Promise<T> => {
    try {
      const result = await work;
      const found = fault();
      if (found !== null) throw new Error(found);
      return result;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      // A RangeError is about what we were given, not about the machine, unless it is about an array that cannot be had.
      if (!(error instanceof RangeError) || isOutOfMemory(reason)) broken(reason, rows);
      throw error;
    }
  };
  return {
    backend: engine.backend,
    load: (params) => watch(engine.load(params)),
    gradient: (batch, gradient) => watch(engine.gradient(batch, gradient), batch.batchSize),
    ...(engine.encodedGradient && {
      encodedGradient: (batch, payload) => watch(engine.encodedGradient!(batch, payload), batch.batchSize),
    }),
    loss: (batch) => watch(engine.loss(batch), batch.batchSize),
    logits: (inputs, batchSize) => watch(engine.logits(inputs, batchSize), batchSize),
    ...(engine.lastStepMs && { lastStepMs: engine.lastStepMs }),
    dispose: () => engine.dispose(),
  };
}

/** As browsers, WebGPU implementations and Emscripten say it. */
function isOutOfMemory(reason: string): boolean {
  return /out of memory|\boom\b|allocation failed|allocation size overflow|enlarge memory|memory access out of bounds|device memory/i.test(reason); // prettier-ignore
}

/** Tells the page how far the downloads are, all of them together, and not more often than anybody can see. */
function reportDownload(): (bytes: number, totalBytes: number | null) => void {
  let lastMs = -Infinity;
  return (bytes, totalBytes) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < REPORT_DOWNLOAD_MS && bytes !== totalBytes) return;
    lastMs = nowMs;
    post({ type: "warmUp", warmUp: { name: "download", bytes, totalBytes } });
  };
}
