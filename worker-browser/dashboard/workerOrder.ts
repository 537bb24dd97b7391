/**
 * @file In which order the workers are listed. Speeds change every second: a list that followed would be different each time
 * that one looks, and a button would belong to somebody else by the time that it is pressed. Pure.
 */
import type { WorkerStatus } from "../../shared/wire/status.ts";

export type SortKey = "name" | "device" | "backend" | "tokensPerSecond" | "share" | "behind" | "leases" | "refused";

export type Sort = { readonly key: SortKey; readonly down: boolean };

/** Time to read twenty rows. */
const SORTED_EVERY_MS = 10_000;

/** An order that holds for a while. */
export type Order = {
  readonly filter: string;
  readonly sort: Sort;
  readonly sortedMs: number;
  readonly workers: readonly WorkerStatus[];
};

/** The workers that match, as they are now: in the order they had, newcomers last; or sorted, when it is time or asked for. */
export function inOrder(
  known: Order | null,
  all: readonly WorkerStatus[],
  wanted: {
    readonly filter: string;
    readonly sort: Sort;
    readonly nowMs: number;
    /** One of them is about to be acted on. */
    readonly isHeld: boolean;
  },
): Order {
  const { filter, sort, nowMs, isHeld } = wanted;
  const matching = matchingWorkers(all, filter);
  if (known === null || known.filter !== filter || known.sort !== sort || (!isHeld && nowMs - known.sortedMs >= SORTED_EVERY_MS)) {
    return { filter, sort, sortedMs: nowMs, workers: sorted(matching, sort) };
  } // prettier-ignore
  const left = new Map(matching.map((worker) => [worker.worker, worker]));
  const stayed = known.workers.flatMap(({ worker }) => {
    const now = left.get(worker);
    left.delete(worker);
    return now ?? [];
  });
  return { ...known, workers: [...stayed, ...sorted([...left.values()], sort)] };
}

function matchingWorkers(all: readonly WorkerStatus[], filter: string): readonly WorkerStatus[] {
  const wanted = filter.trim().toLowerCase();
  if (wanted === "") return all;
  return all.filter(({ name, worker, device, backend }) =>
    `${name} ${worker} ${device} ${backend ?? ""}`.toLowerCase().includes(wanted),
  );
}

function sorted(workers: readonly WorkerStatus[], { key, down }: Sort): WorkerStatus[] {
  const value = (worker: WorkerStatus): string | number => worker[key] ?? "";
  return [...workers].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    // Rows with equal values keep their places.
    return (down ? -order : order) || a.worker.localeCompare(b.worker);
  });
}
