/** @file Who has computed most of this run, from the coordinator's /board: the best few, and this browser wherever it stands. */
import * as z from "zod/mini";
import type { Progress } from "../../shared/wire/protocol.ts";
import { BOARD_PATH, type Board } from "../../shared/wire/status.ts";

export type Place = {
  readonly rank: number;
  readonly name: string;
  /** Of the run's tokens, 0 … 1. */
  readonly share: number;
  readonly rounds: number;
  readonly isMine: boolean;
};

const schema = z.object({
  tokens: z.number(),
  contributors: z.number(),
  top: z.array(z.object({ worker: z.string(), name: z.string(), tokens: z.number(), rounds: z.number() })),
});

/** Asks again every `everyMs` while the page is visible; what was known stays while the coordinator does not answer. */
export function watchBoard({
  everyMs,
  onChange,
}: {
  readonly everyMs: number;
  readonly onChange: (board: Board) => void;
}): void {
  // prettier-ignore
  const look = async (): Promise<void> => {
    if (document.hidden) return;
    try {
      const response = await fetch(`.${BOARD_PATH}`, { cache: "no-store", signal: AbortSignal.timeout(everyMs) });
      onChange(z.parse(schema, await response.json()));
    } catch {
      // The page says elsewhere that the coordinator does not answer.
    }
  };
  void look();
  setInterval(() => void look(), everyMs);
}

/**
 * Equal tokens share a rank, as they do in `progress`. Whoever is this browser and not among the best comes last, with its own
 * rank, where `progress` tells it.
 */
export function placesOf(
  { tokens, top }: Board,
  me: { readonly worker: string | null; readonly name: string },
  progress: Progress | null,
): readonly Place[] {
  const share = (part: number): number => (tokens === 0 ? 0 : Math.min(1, part / tokens));
  const places = top.map((standing): Place => ({
    rank: 1 + top.filter((other) => other.tokens > standing.tokens).length,
    name: standing.name,
    share: share(standing.tokens),
    rounds: standing.rounds,
    isMine: standing.worker === me.worker,
  }));
  if (places.some(({ isMine }) => isMine) || progress === null || progress.yourRank === null) return places;
  const { yourRank: rank, yourTokens, yourRounds: rounds } = progress;
  return [...places, { rank, name: me.name, share: share(yourTokens), rounds, isMine: true }];
}
