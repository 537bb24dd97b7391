/**
 * @file The traced steps of the run's model over HTTP, for browsers that compile them: an index, and files that are named by their
 * content. Traced by a program of worker-node when somebody first needs them, and kept in memory (a few kilobytes gzipped).
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { Hono } from "hono";
import * as z from "zod";
import { GRAPH_INDEX_FILE, type GraphIndex, GRAPHS_PATH, type ServedGraph } from "../../shared/engine/graphIndex.ts";
import type { RunDescription } from "../../shared/wire/protocol.ts";
import { runProgramFile } from "../children.ts";
import { IMMUTABLE } from "./files.ts";

export type StepGraphs = {
  readonly routes: Hono;
  /** Somebody will ask in a moment. */
  readonly prepare: () => void;
};

const traced = z.array(
  z.object({ kind: z.enum(["gradient", "loss"]), batchSize: z.int().positive(), graph: z.string() }),
);

type Ready = { readonly index: GraphIndex; readonly files: ReadonlyMap<string, Buffer<ArrayBuffer>> };

export function createStepGraphs({
  run,
  examined,
  signal,
  onProblem,
}: {
  run: RunDescription;
  examined: boolean;
  /** Ends the program when the coordinator stops. */
  signal: AbortSignal;
  onProblem: (text: string) => void;
}): StepGraphs {
  const trace = async (): Promise<Ready> => {
    const { code, stdout, stderr } = await runProgramFile("worker-node/stepGraphs", [JSON.stringify(run)], signal);
    if (code !== 0) throw new Error(stderr.trim().split("\n").at(-1)?.slice(0, 300) ?? "");
    const files = new Map<string, Buffer<ArrayBuffer>>();
    const graphs: ServedGraph[] = [];
    for (const { kind, batchSize, graph } of traced.parse(JSON.parse(stdout))) {
      const sha256 = createHash("sha256").update(graph).digest("hex");
      graphs.push({ kind, batchSize, sha256 });
      files.set(`${sha256}.json`, await promisify(gzip)(graph));
    }
    return { index: { examined, graphs }, files };
  };
  let tracing: Promise<Ready> | null = null;
  /** Without the program browsers trace the model themselves: slower, and nothing else is lost. */
  const ready = (): Promise<Ready> => {
    tracing ??= trace().catch((error: unknown) => {
      if (!signal.aborted) onProblem(`the step is not traced for browsers, which do it themselves: ${String(error)}`);
      return { index: { examined, graphs: [] }, files: new Map() };
    });
    return tracing;
  };

  const routes = new Hono();
  routes.get(GRAPHS_PATH + GRAPH_INDEX_FILE, async (context) =>
    context.json((await ready()).index, 200, { "Cache-Control": "no-store" }),
  );
  routes.get(`${GRAPHS_PATH}:file` as const, async (context) => {
    const found = (await ready()).files.get(context.req.param("file"));
    if (found === undefined) return context.notFound();
    // Whoever compiles them is a browser, and all of those take gzip.
    return context.body(found, 200, {
      "Content-Type": "application/json",
      "Content-Encoding": "gzip",
      "Cache-Control": IMMUTABLE,
      "X-Content-Type-Options": "nosniff",
    });
  });
  return { routes, prepare: () => void ready() };
}
