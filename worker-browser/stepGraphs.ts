/** @file The traced steps that the coordinator serves: with them the compiled step needs neither tfjs nor the model's code. */
import type { Graph } from "../shared/engine/graph.ts";
import { parseGraph } from "../shared/engine/graphFile.ts";
import { GRAPH_INDEX_FILE, type GraphIndex, GRAPHS_PATH, parseGraphIndex } from "../shared/engine/graphIndex.ts";
import type { StepKind } from "../shared/engine/stepKind.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import type { ParamLayout } from "../shared/numerics/layout.ts";
import { type FetchBytes, sha256 } from "./shards.ts";

/** Where to ask, and how. */
export type GraphSource = { readonly url: string; readonly fetchBytes: FetchBytes };

export type StepGraphs = {
  /** Whether the coordinator examines the engine before it lends it work. */
  readonly examined: boolean;
  /** As served; traced here when it is not, or is not what it should be. */
  readonly graphFor: (kind: StepKind, batchSize: number) => Promise<Graph>;
};

/** Begins to fetch at once. Never rejects: what cannot be fetched is traced here, with a warning. */
export async function openStepGraphs(
  source: GraphSource | null,
  { spec, layout }: { spec: ModelSpec; layout: ParamLayout },
): Promise<StepGraphs> {
  const index = source && (await fetchIndex(source).catch(warn("the coordinator's list of traced steps")));
  const fetchGraph = async (kind: StepKind, batchSize: number): Promise<Graph | null> => {
    const served = index?.graphs.find((graph) => graph.kind === kind && graph.batchSize === batchSize);
    if (!source || !served) return null;
    const bytes = await source.fetchBytes(`${source.url}${GRAPHS_PATH}${served.sha256}.json`);
    const found = await sha256(bytes);
    if (found !== served.sha256) throw new Error(`its SHA-256 is ${found}, not ${served.sha256}`);
    return parseGraph(new TextDecoder().decode(bytes), { kind, spec, layout, batchSize });
  };
  return {
    examined: index?.examined ?? false,
    graphFor: async (kind, batchSize) => {
      const fetched = await fetchGraph(kind, batchSize).catch(warn(`the traced ${kind} step`));
      if (fetched) return fetched;
      const { stepGraph } = await import("../shared/engine/stepGraph.ts");
      return stepGraph(kind, spec, layout, batchSize);
    },
  };
}

async function fetchIndex({ url, fetchBytes }: GraphSource): Promise<GraphIndex> {
  const bytes = await fetchBytes(url + GRAPHS_PATH + GRAPH_INDEX_FILE);
  return parseGraphIndex(JSON.parse(new TextDecoder().decode(bytes)));
}

function warn(what: string): (error: unknown) => null {
  return (error) => {
    console.warn(`${what} cannot be used, the model is traced here: ${String(error)}`);
    return null;
  };
}
