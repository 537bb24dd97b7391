/**
 * @file The run, live, for dashboards: server-sent events to a bounded number of readers. A reader is told everything once, and
 * every second what became different, encoded once, whoever reads; one that does not keep up is dropped, and connects again by
 * itself [I5].
 */
import type { LiveEvents, ScalingPoint } from "../../shared/wire/dashboard.ts";
import type { Status } from "../../shared/wire/status.ts";
import { changeOf } from "../../shared/wire/statusChange.ts";
import type { History } from "../store/history.ts";

export type LiveConfig = {
  readonly history: History;
  readonly status: () => Status;
  readonly nowMs: () => number;
  /** Names this process: its dashboards see by it that the coordinator was started again. */
  readonly process: string;
  readonly maxReaders?: number;
  readonly maxUnsentBytes?: number;
  /** The past cannot be read or written, which is tried again each second: told once until it can, for the run goes on without it. */
  readonly onProblem: (problem: string) => void;
};

export type Live = {
  /** A stream of events for one more reader; null when there are as many as allowed. */
  readonly open: () => ReadableStream<Uint8Array> | null;
  readonly readers: () => number;
  /** Call once a second: takes in what is new, and tells it. */
  readonly tick: () => void;
  readonly close: () => void;
};

/** An operator's team, each with a few tabs; every reader costs its share of the uplink. */
const MAX_READERS = 32;

/** Over a minute of a run with 500 workers. Beyond it the reader is too slow, or asleep. */
const MAX_UNSENT_BYTES = 2 * 2 ** 20;

/** More rounds than this in a second come as means of several. */
const MAX_POINTS = 200;

/** Shown to who has just opened the page; more than that is in the ledger. */
const MAX_EVENTS = 200;

/** What all readers have been told. */
type Told = {
  readonly status: Status;
  readonly scaling: readonly ScalingPoint[];
  /** The newest of each. */
  readonly version: number;
  readonly evaluation: number;
  readonly event: number;
};

export function createLive({
  history,
  status,
  nowMs,
  process,
  maxReaders = MAX_READERS,
  maxUnsentBytes = MAX_UNSENT_BYTES,
  onProblem,
}: LiveConfig): Live {
  const startedMs = nowMs();
  const readers = new Set<ReadableStreamDefaultController<Uint8Array>>();
  /** What every reader has. Null: none was there yet. */
  let told: Told | null = null;
  let hasFailed = false;
  let isClosed = false;

  /** Takes in what the ledger has new, in pieces between which other work gets its turn. */
  function takeIn(): void {
    if (isClosed) return;
    try {
      if (history.refresh()) setImmediate(takeIn);
      hasFailed = false;
    } catch (error) {
      if (!hasFailed) onProblem(`the dashboard's curves wait, and catch up later: ${(error as Error).message}`);
      hasFailed = true;
    }
  }

  /** What there is now, to be told whole; all that follows is told as what became different from it. */
  function everything(): Told {
    return {
      status: rounded(status()),
      scaling: history.scaling(),
      version: history.curves({ from: 1, to: 0, points: 1 }).newest,
      evaluation: history.lastEvaluated(),
      event: history.eventsAfter(0, 1).at(-1)?.id ?? 0,
    };
  }

  function news(before: Told): Uint8Array {
    const curves = history.curves({ from: before.version + 1, to: Infinity, points: MAX_POINTS });
    const evaluations = history.evaluationsAfter(before.evaluation, MAX_POINTS);
    const events = history.eventsAfter(before.event, MAX_EVENTS);
    const now: Told = {
      status: rounded(status()),
      scaling: history.scaling(),
      version: curves.newest,
      evaluation: evaluations.version.at(-1) ?? before.evaluation,
      event: events.at(-1)?.id ?? before.event,
    };
    const isScaling = JSON.stringify(now.scaling) !== JSON.stringify(before.scaling);
    told = now;
    return encode("news", {
      status: changeOf(before.status, now.status),
      ...(isScaling ? { scaling: now.scaling } : {}),
      ...(curves.version.length + evaluations.version.length > 0 ? { rounds: { curves, evaluations } } : {}),
      ...(events.length > 0 ? { events } : {}),
    });
  }

  function tell(reader: ReadableStreamDefaultController<Uint8Array>, message: Uint8Array): void {
    if ((reader.desiredSize ?? 0) >= message.length) {
      reader.enqueue(message);
      return;
    }
    readers.delete(reader);
    reader.error(new Error("reads too slowly"));
  }

  return {
    open() {
      if (readers.size >= maxReaders || isClosed) return null;
      let mine: ReadableStreamDefaultController<Uint8Array>;
      return new ReadableStream<Uint8Array>(
        {
          start(controller) {
            mine = controller;
            // Where nobody was told anything for a while, what is new begins now.
            if (told === null || readers.size === 0) told = everything();
            readers.add(controller);
            const { event } = told;
            const events = history.eventsAfter(0, MAX_EVENTS).filter(({ id }) => id <= event);
            tell(controller, encode("hello", { process, startedMs, status: told.status, scaling: told.scaling, events })); // prettier-ignore
          },
          cancel: () => {
            readers.delete(mine);
          },
        },
        new ByteLengthQueuingStrategy({ highWaterMark: maxUnsentBytes }),
      );
    },
    readers: () => readers.size,
    tick() {
      takeIn();
      if (readers.size === 0 || told === null) return;
      const message = news(told);
      for (const reader of readers) tell(reader, message);
    },
    close() {
      isClosed = true;
      for (const reader of readers) reader.close();
      readers.clear();
    },
  };
}

function encode<Name extends keyof LiveEvents>(name: Name, data: LiveEvents[Name]): Uint8Array {
  return new TextEncoder().encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** As many digits as are shown: of what is measured all the others differ each second, for every worker. */
function rounded(status: Status): Status {
  const workers = status.workers.map((worker) => ({
    ...worker,
    tokensPerSecond: Number(worker.tokensPerSecond.toPrecision(5)),
    share: Number(worker.share.toPrecision(3)),
  }));
  return { ...status, workers };
}
