/**
 * @file What a running Node process holds, asked from outside: its inspector is opened by SIGUSR1, so the program under test is
 * the one that users run. Start it with {@link inspectable} in its environment: the port is then any free one.
 */
import type { ChildProcess } from "node:child_process";
import { readdirSync } from "node:fs";

export const inspectable: Readonly<Record<string, string>> = { NODE_OPTIONS: "--inspect-port=0" };

export type Holdings = {
  /** After garbage collection. */
  readonly heapBytes: number;
  /** Outside the heap: array buffers and what native code reports. */
  readonly externalBytes: number;
  readonly rssBytes: number;
  /** Open files, sockets included. */
  readonly files: number;
  /** By type, as process.getActiveResourcesInfo() names them: timers, sockets, file operations, threads. */
  readonly resources: Readonly<Record<string, number>>;
};

export type Inspector = { readonly holdings: () => Promise<Holdings>; readonly close: () => void };

const OPEN_MS = 20_000;

export async function inspectProcess(child: ChildProcess, output: () => string): Promise<Inspector> {
  child.kill("SIGUSR1");
  const url = await inspectorUrl(output);
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", () => reject(new Error(`no inspector at ${url}`)), { once: true });
  });
  const waiting = new Map<number, (result: unknown) => void>();
  socket.addEventListener("message", ({ data }) => {
    const { id, result } = JSON.parse(String(data)) as { id?: number; result?: unknown };
    if (id !== undefined) waiting.get(id)?.(result);
  });
  let sent = 0;
  const call = (method: string, params: object = {}): Promise<unknown> => {
    sent += 1;
    const id = sent;
    socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve) => waiting.set(id, resolve)).finally(() => waiting.delete(id));
  };
  return {
    async holdings() {
      // Twice: what the first collection finalises is garbage for the second.
      await call("HeapProfiler.collectGarbage");
      await call("HeapProfiler.collectGarbage");
      const expression =
        "JSON.stringify({ memory: process.memoryUsage(), resources: process.getActiveResourcesInfo() })";
      const answer = (await call("Runtime.evaluate", { expression })) as { result: { value: string } };
      const { memory, resources } = JSON.parse(answer.result.value) as {
        memory: NodeJS.MemoryUsage;
        resources: string[];
      };
      const byType: Record<string, number> = {};
      for (const type of resources) byType[type] = (byType[type] ?? 0) + 1;
      return {
        heapBytes: memory.heapUsed,
        externalBytes: memory.external,
        rssBytes: memory.rss,
        files: readdirSync(`/proc/${child.pid}/fd`).length,
        resources: byType,
      };
    },
    close: () => socket.close(),
  };
}

async function inspectorUrl(output: () => string): Promise<string> {
  for (const endMs = performance.now() + OPEN_MS; performance.now() < endMs;) {
    const match = /Debugger listening on (ws:\S+)/.exec(output());
    if (match !== null) return match[1]!;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("the process did not open its inspector");
}
