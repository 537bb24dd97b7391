/** @file The memory of another Node process, after a garbage collection: through its inspector, started with `--inspect`. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { WebSocket } from "ws";

export type Memory = { readonly rss: number; readonly heapUsed: number; readonly external: number };

export type MemoryProbe = {
  /** Bytes; collects garbage first. */
  readonly measure: () => Promise<Memory>;
  readonly close: () => void;
};

/** @param output of the process, in which the inspector says where it listens. */
export async function memoryProbe(output: string): Promise<MemoryProbe> {
  const url = /Debugger listening on (ws:\S+)/.exec(output)?.[1];
  if (url === undefined) throw new Error("the process was not started with --inspect");
  const socket = new WebSocket(url);
  await once(socket, "open");
  let nextId = 1;
  const call = async (method: string, params: object = {}): Promise<unknown> => {
    const id = nextId++;
    socket.send(JSON.stringify({ id, method, params }));
    for (;;) {
      const [data] = (await once(socket, "message")) as [Buffer];
      const answer = JSON.parse(data.toString()) as { id?: number; result?: unknown };
      if (answer.id === id) return answer.result;
    }
  };
  return {
    async measure() {
      await call("HeapProfiler.collectGarbage");
      const evaluated = (await call("Runtime.evaluate", {
        expression: "JSON.stringify(process.memoryUsage())",
      })) as { result: { value: string } };
      return JSON.parse(evaluated.result.value) as Memory;
    },
    close: () => socket.terminate(),
  };
}

/** Resident bytes of a process, as the system counts them (Linux). */
export function residentBytes(pid: number): number {
  return 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
}
