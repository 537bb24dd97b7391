/** @file The compute thread (a dedicated worker): θ, the engine and the shards, behind a message port. */
import type { Engine } from "../shared/engine/engine.ts";
import { createCompute } from "../shared/worker/compute.ts";
import { chooseEngine } from "./engine.ts";
import type { ComputeToSession, EngineChoice, SessionToCompute } from "./messages.ts";
import { createFetcher } from "./shards.ts";

let choice: EngineChoice = { force: null, avoid: [] };

const post = (message: ComputeToSession, transfer: ArrayBuffer[] = []): void => self.postMessage(message, { transfer });

const compute = createCompute({
  createEngine: async (run, layout) => {
    const chosen = await chooseEngine({ spec: run.model, layout, ...choice }).catch((error: unknown) => {
      post({ type: "unable", reason: error instanceof Error ? error.message : String(error) });
      throw error;
    });
    post({ type: "device", device: chosen.device });
    const broken = (reason: string): void => post({ type: "broken", backend: chosen.engine.backend, reason });
    void chosen.lost.then(broken);
    return { engine: guarded(chosen.engine, chosen.fault, broken), fallbacks: chosen.fallbacks };
  },
  fetchBytes: createFetcher(),
  emit: (event, transfer) => post({ type: "event", event }, transfer),
  nowMs: () => performance.now(),
  yieldToEvents: () => new Promise((resolve) => setTimeout(resolve, 0)),
});

self.addEventListener("message", ({ data }: MessageEvent<SessionToCompute>) => {
  switch (data.type) {
    case "choice":
      choice = data.choice;
      break;
    case "command":
      compute.command(data.command);
      break;
    default:
      data satisfies never;
  }
});

/** The engine, but nothing it returns is believed once the GPU reported an error: tfjs goes on with garbage. */
function guarded(engine: Engine, fault: () => string | null, broken: (reason: string) => void): Engine {
  const watch = async <T>(work: Promise<T>): Promise<T> => {
    try {
      const result = await work;
      const found = fault();
      if (found !== null) throw new Error(found);
      return result;
    } catch (error) {
      // A RangeError is about what we were given, not about the machine.
      if (!(error instanceof RangeError)) broken(error instanceof Error ? error.message : String(error));
      throw error;
    }
  };
  return {
    backend: engine.backend,
    load: (params) => watch(engine.load(params)),
    gradient: (batch, gradient) => watch(engine.gradient(batch, gradient)),
    loss: (batch) => watch(engine.loss(batch)),
    logits: (inputs, batchSize) => watch(engine.logits(inputs, batchSize)),
    dispose: () => engine.dispose(),
  };
}
