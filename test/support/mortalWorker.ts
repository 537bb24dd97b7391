/**
 * @file A worker that dies with work in its hands: the real session and the real compute over a real socket, in this process
 * (a thousand processes would cost a thousand starts), until its lease comes or its first result is away; then its socket
 * is cut, without a goodbye.
 */
import { WebSocket } from "ws";
import type { Engine } from "../../shared/engine/engine.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { createCompute } from "../../shared/worker/compute.ts";
import { runSession } from "../../shared/worker/run.ts";
import { fetchBytes } from "../../worker-node/fetch.ts";

export type EngineFor = (spec: ModelSpec, layout: ParamLayout) => Promise<Engine>;

/** Resolves with the version of the round that it died in. */
export async function dieWorking(
  url: string,
  name: string,
  { engineFor, after }: { engineFor: EngineFor; after: "lease" | "result" },
): Promise<number> {
  const died = Promise.withResolvers<number>();
  let alive = true;
  let socket: WebSocket | null = null;
  const die = (version: number): void => {
    if (!alive) return;
    alive = false;
    clearInterval(timer);
    socket?.terminate();
    died.resolve(version);
  };
  let timer: NodeJS.Timeout | undefined;
  const compute = createCompute({
    createEngine: async ({ model }, layout) => {
      const engine = await engineFor(model, layout);
      // The next one's, too.
      return { engine: { ...engine, dispose: async () => {} }, fallbacks: [] };
    },
    fetchBytes,
    emit: (event) => {
      if (!alive) return;
      session.computed(event);
      if (event.type === "contribution" && after === "result") die(event.base);
    },
    nowMs: () => performance.now(),
    pause: (ms) => new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve))),
  });
  const session = runSession(
    { kind: "node", name, token: null, url, seed: 1 },
    {
      connect: (handlers) => {
        const mine = new WebSocket(`${url.replace("http", "ws")}/socket`, { perMessageDeflate: false });
        socket = mine;
        mine.on("open", handlers.onOpen);
        mine.on("message", (data: Buffer) => alive && handlers.onFrame(new Uint8Array(data)));
        mine.on("error", (error) => died.reject(error));
        mine.on("close", () => alive && died.reject(new Error(`${name} was cut off: ${session.state().notice}`)));
        return {
          send: (bytes, onSent) => mine.readyState === WebSocket.OPEN && mine.send(bytes, () => onSent?.()),
          close: () => mine.close(),
        };
      },
      compute: (command) => {
        if (!alive) return;
        if (command.type === "work" && after === "lease") die(command.lease.base);
        else compute.command(command);
      },
      nowMs: () => performance.now(),
      every: (ms, callback) => {
        timer = setInterval(callback, ms);
        return () => clearInterval(timer);
      },
      remember: () => {},
      onChange: () => {},
    },
    null,
  );
  return died.promise;
}
