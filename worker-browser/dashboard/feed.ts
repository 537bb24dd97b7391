/** @file What the coordinator tells, as signals: live events, kept in bounded windows; it reconnects by itself and says when. */
import { batch, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { LIVE_PATH } from "../../shared/wire/dashboard.ts";
import type { Curves, DashboardStatus, LiveEvents, RunEvent, ScalingPoint } from "../../shared/wire/dashboard.ts";
import { append, fetchCurves, type Range } from "./curves.ts";

export type Connection =
  { readonly name: "connecting" } | { readonly name: "open" } | { readonly name: "lost"; readonly sinceMs: number };

export type Feed = {
  readonly connection: Signal<Connection>;
  readonly status: Signal<DashboardStatus | null>;
  readonly scaling: Signal<readonly ScalingPoint[]>;
  /** Newest first. */
  readonly events: Signal<readonly RunEvent[]>;
  readonly curves: Signal<Curves | null>;
  /** The part of the run that is shown; null: all of it, growing. */
  readonly zoom: Signal<Range | null>;
  /** When the coordinator was started again while this page was open; null when it was not. */
  readonly restartedMs: Signal<number | null>;
  readonly show: (range: Range | null) => void;
};

const MAX_EVENTS = 500;

/** A coordinator that starts again answers 503 meanwhile; a full one has room when somebody leaves. */
const RETRY_MS = 2000;

export function openFeed(): Feed {
  const connection = signal<Connection>({ name: "connecting" });
  const status = signal<DashboardStatus | null>(null);
  const scaling = signal<readonly ScalingPoint[]>([]);
  const events = signal<readonly RunEvent[]>([]);
  const curves = signal<Curves | null>(null);
  const zoom = signal<Range | null>(null);
  const restartedMs = signal<number | null>(null);
  let process: string | null = null;
  let fetching = 0;

  /** The last question wins: an answer to an older one is not shown. */
  async function reload(): Promise<void> {
    const mine = ++fetching;
    try {
      const answer = await fetchCurves(zoom.value);
      if (mine === fetching) curves.value = answer;
    } catch {
      // The coordinator is gone: the connection says so, and its return loads the curves again.
    }
  }

  function connect(): void {
    const source = new EventSource(`.${LIVE_PATH}`);
    on(source, "hello", (hello) => {
      batch(() => {
        connection.value = { name: "open" };
        if (process !== null && process !== hello.process) {
          restartedMs.value = hello.startedMs;
          events.value = [];
        }
      });
      process = hello.process;
      void reload();
    });
    on(source, "status", (told) => {
      batch(() => {
        status.value = told.status;
        scaling.value = told.scaling;
      });
    });
    on(source, "rounds", (told) => {
      if (zoom.value !== null || curves.value === null) return;
      const longer = append(curves.value, told.curves, told.evaluations);
      if (longer === null) void reload();
      else curves.value = longer;
    });
    on(source, "events", (told) => {
      const known = events.value[0]?.id ?? 0;
      const news = told.events.filter(({ id }) => id > known).reverse();
      events.value = [...news, ...events.value].slice(0, MAX_EVENTS);
    });
    source.addEventListener("error", () => {
      if (connection.value.name !== "lost") connection.value = { name: "lost", sinceMs: Date.now() };
      if (source.readyState !== EventSource.CLOSED) return;
      // An answer that was no stream of events ends the browser's own attempts.
      source.close();
      setTimeout(connect, RETRY_MS);
    });
  }

  connect();
  return {
    connection,
    status,
    scaling,
    events,
    curves,
    zoom,
    restartedMs,
    show: (range) => {
      zoom.value = range;
      void reload();
    },
  };
}

function on<Name extends keyof LiveEvents>(
  source: EventSource,
  name: Name,
  listener: (data: LiveEvents[Name]) => void,
): void {
  source.addEventListener(name, (event: MessageEvent<string>) => listener(JSON.parse(event.data) as LiveEvents[Name]));
}
