/** @file The run as anybody sees it, from the coordinator's /status: shown before a visitor decides to join. */
import * as z from "zod/mini";

const schema = z.object({
  run: z.string(),
  about: z.nullable(z.string()),
  corpus: z.string(),
  parameters: z.number(),
  version: z.number(),
  steps: z.number(),
  tokens: z.number(),
  tokensPerSecond: z.number(),
  trainLoss: z.nullable(z.number()),
  validationLoss: z.nullable(z.number()),
  workers: z.array(z.unknown()),
});

export type Overview = {
  readonly run: string;
  /** In the operator's words. */
  readonly about: string | null;
  readonly corpus: string;
  readonly parameters: number;
  readonly version: number;
  readonly steps: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  /** How many. */
  readonly workers: number;
};

export type OverviewState = { readonly name: "unknown" } | { readonly name: "unreachable" } | ({ readonly name: "known" } & Overview); // prettier-ignore

/** Asks again every `everyMs` as long as it is wanted and the page is visible. */
export function watchOverview({
  everyMs,
  wanted,
  onChange,
}: {
  readonly everyMs: number;
  readonly wanted: () => boolean;
  readonly onChange: (overview: OverviewState) => void;
}): void {
  const look = async (): Promise<void> => {
    if (!wanted() || document.hidden) return;
    onChange(await readOverview(everyMs));
  };
  void look();
  setInterval(() => void look(), everyMs);
}

async function readOverview(timeoutMs: number): Promise<OverviewState> {
  try {
    const response = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(timeoutMs) });
    const parsed = z.parse(schema, await response.json());
    return { name: "known", ...parsed, workers: parsed.workers.length };
  } catch {
    return { name: "unreachable" };
  }
}
