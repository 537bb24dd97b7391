/** @file The compute thread of a Node worker: θ, engine and shards live here, away from the socket and its heartbeats. */
import { parentPort, workerData } from "node:worker_threads";
import { createCompute } from "../shared/worker/compute.ts";
import type { ComputeCommand } from "../shared/worker/commands.ts";
import { createNodeEngine } from "./engine.ts";
import type { EnginePreference } from "./engine.ts";
import { fetchBytes } from "./fetch.ts";
import type { Provider } from "./providers.ts";

export type ComputeData = {
  readonly threads: number;
  readonly engine: EnginePreference;
  readonly provider: Provider;
};

/** `end`: no more commands, and no more than the unit in work. */
export type ThreadCommand = ComputeCommand | { readonly type: "end" };

const port = parentPort;
if (port === null) throw new Error("compute.ts runs in a worker thread");
const { threads, engine: preference, provider } = workerData as ComputeData;

/** Engines whose answer to the examination was wrong: the same backend may go on in another way. */
const refused: { readonly name: string; readonly reason: string }[] = [];
let last = "";

const compute = createCompute({
  createEngine: async ({ model, unit, activations, codec }, layout, wrong) => {
    for (const { reason } of wrong.slice(refused.length)) refused.push({ name: last, reason });
    const created = await createNodeEngine({
      spec: model,
      layout,
      threads,
      preference,
      provider,
      batchSize: unit,
      storage: activations ?? "f32",
      codec,
      avoid: refused,
    });
    last = created.name;
    return created;
  },
  fetchBytes,
  emit: (event, transfer = []) => port.postMessage(event, transfer),
  nowMs: () => performance.now(),
  pause: (ms) => new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve))),
});
port.on("message", (command: ThreadCommand) => {
  // With its port closed the thread ends once what it is doing is done.
  if (command.type === "end") port.close();
  else compute.command(command);
});
