/**
 * @file The run, live, for dashboards: server-sent events to a bounded number of readers. Every second each event is encoded
 * once, whoever reads; a reader that does not keep up is dropped, and connects again by itself [I5].
 */
import type { LiveEvents } from "../../shared/wire/dashboard.ts";
import type { History } from "../store/history.ts";

export type LiveConfig = {
  readonly history: History;
  readonly status: () => LiveEvents["status"]["status"];
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

/** Some ten seconds of a run with 500 workers. Beyond it the reader is too slow, or asleep. */
const MAX_UNSENT_BYTES = 2 * 2 ** 20;

/** More rounds than this in a second come as means of several. */
const MAX_POINTS = 200;

/** Shown to who has just opened the page; more than that is in the ledger. */
const MAX_EVENTS = 200;

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
  let toldVersion: number | null = null;
  let toldEvaluation = 0;
  let toldEvent = 0;
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

  function news(): Uint8Array {
    let text = encode("status", { status: status(), scaling: history.scaling() });
    if (toldVersion !== null) {
      const curves = history.curves({ from: toldVersion + 1, to: Infinity, points: MAX_POINTS });
      const evaluations = history.evaluationsAfter(toldEvaluation, MAX_POINTS);
      if (curves.version.length + evaluations.version.length > 0) text += encode("rounds", { curves, evaluations });
      toldVersion = curves.newest;
      toldEvaluation = evaluations.version.at(-1) ?? toldEvaluation;
    }
    const events = history.eventsAfter(toldEvent, MAX_EVENTS);
    if (events.length > 0) text += encode("events", { events });
    toldEvent = events.at(-1)?.id ?? toldEvent;
    return bytes(text);
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
            if (readers.size === 0) {
              // Nobody was told anything for a while: what is new begins now.
              toldVersion = history.curves({ from: 1, to: 0, points: 1 }).newest;
              toldEvaluation = history.lastEvaluated();
              toldEvent = history.eventsAfter(0, 1).at(-1)?.id ?? 0;
            }
            readers.add(controller);
            const hello = encode("hello", { process, startedMs });
            const now = encode("status", { status: status(), scaling: history.scaling() });
            const events = encode("events", { events: history.eventsAfter(0, MAX_EVENTS).filter(({ id }) => id <= toldEvent) }); // prettier-ignore
            tell(controller, bytes(hello + now + events));
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
      if (readers.size === 0) return;
      const message = news();
      for (const reader of readers) tell(reader, message);
    },
    close() {
      isClosed = true;
      for (const reader of readers) reader.close();
      readers.clear();
    },
  };
}

function encode<Name extends keyof LiveEvents>(name: Name, data: LiveEvents[Name]): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
