/** @file What the coordinator tells, as signals: live events, kept in bounded windows; it reconnects by itself and says when. */
import { batch, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { LIVE_PATH } from "../../shared/wire/dashboard.ts";
import type { Curves, LiveEvents, NewRounds, RunEvent, ScalingPoint } from "../../shared/wire/dashboard.ts";
import type { Status } from "../../shared/wire/status.ts";
import { applyChange } from "../../shared/wire/statusChange.ts";
import type { Range } from "../pages/plot.tsx";
import { appendAll, fetchCurves, pointsBetween } from "./curves.ts";

export type Connection =
  { readonly name: "connecting" } | { readonly name: "open" } | { readonly name: "lost"; readonly sinceMs: number };

export type Feed = {
  readonly connection: Signal<Connection>;
  readonly status: Signal<Status | null>;
  readonly scaling: Signal<readonly ScalingPoint[]>;
  /** Newest first. */
  readonly events: Signal<readonly RunEvent[]>;
  readonly curves: Signal<Curves | null>;
  /** When the newest round that was heard of was committed. */
  readonly lastRoundMs: Signal<number | null>;
  /** The part of the run that is shown; null: all of it, growing. */
  readonly zoom: Signal<Range | null>;
  /** When the coordinator was started again while this page was open; null when it was not. */
  readonly restartedMs: Signal<number | null>;
  readonly show: (range: Range | null) => void;
};

const MAX_EVENTS = 500;

/** Rounds that would move a curve by less than this part of a point are shown together with later ones: one chart of seven each time. */
const WORTH_A_PAINTING = 1 / 7;

/** ... but no later than this: of a run in which a point takes longer than all of them, hours are in sight. */
const PAINT_EVERY_MS = 4000;

/** A coordinator that starts again answers 503 meanwhile; a full one has room when somebody leaves. */
const RETRY_MS = 2000;

export function openFeed(): Feed {
  const connection = signal<Connection>({ name: "connecting" });
  const status = signal<Status | null>(null);
  const scaling = signal<readonly ScalingPoint[]>([]);
  const events = signal<readonly RunEvent[]>([]);
  const curves = signal<Curves | null>(null);
  const lastRoundMs = signal<number | null>(null);
  const zoom = signal<Range | null>(null);
  const restartedMs = signal<number | null>(null);
  let process: string | null = null;
  /** What came since the curves were painted: few, for they wait no longer than {@link PAINT_EVERY_MS}. */
  let unpainted: NewRounds[] = [];
  /** As {@link Feed.scaling}: it goes on as slowly as the curves do, and is painted with them. */
  let newestScaling: readonly ScalingPoint[] = [];
  let paintedMs = -Infinity;
  let fetching = 0;

  /** The last question wins: an answer to an older one is not shown. */
  async function reload(): Promise<void> {
    const mine = ++fetching;
    try {
      const answer = await fetchCurves(zoom.value);
      if (mine === fetching) paint(answer);
    } catch {
      // The coordinator is gone: the connection says so, and its return loads the curves again.
    }
  }

  function paint(longer: Curves): void {
    unpainted = [];
    batch(() => {
      curves.value = longer;
      scaling.value = newestScaling;
    });
    // A part of the past says nothing of now.
    if (zoom.value === null) lastRoundMs.value = longer.atMs.at(-1) ?? null;
    paintedMs = performance.now();
  }

  function take(more: NewRounds): void {
    lastRoundMs.value = more.curves.atMs.at(-1) ?? lastRoundMs.value;
    const shown = curves.value;
    if (zoom.value !== null || shown === null) return;
    unpainted.push(more);
    const { newest } = more.curves;
    const isWorth = pointsBetween(shown, newest) >= WORTH_A_PAINTING || more.evaluations.version.length > 0;
    if (!isWorth && performance.now() - paintedMs <= PAINT_EVERY_MS) return;
    const longer = appendAll(shown, unpainted);
    if (longer !== null) paint(longer);
    else {
      unpainted = [];
      void reload();
    }
  }

  function hear(told: readonly RunEvent[]): void {
    const known = events.value[0]?.id ?? 0;
    const news = told.filter(({ id }) => id > known).reverse();
    if (news.length > 0) events.value = [...news, ...events.value].slice(0, MAX_EVENTS);
  }

  function connect(): void {
    const source = new EventSource(`.${LIVE_PATH}`);
    on(source, "hello", (hello) => {
      const isAgain = process !== null;
      batch(() => {
        connection.value = { name: "open" };
        if (isAgain && process !== hello.process) {
          restartedMs.value = hello.startedMs;
          events.value = [];
        }
        status.value = hello.status;
        newestScaling = scaling.value = hello.scaling;
        hear(hello.events);
      });
      // At first they are asked for already.
      if (isAgain) void reload();
      process = hello.process;
    });
    // All at once: each change of a signal by itself would draw the page anew.
    on(source, "news", (news) => {
      batch(() => {
        if (status.value !== null) status.value = applyChange(status.value, news.status);
        newestScaling = news.scaling ?? newestScaling;
        if (newestScaling.length !== scaling.value.length) scaling.value = newestScaling;
        if (news.rounds !== undefined) take(news.rounds);
        if (news.events !== undefined) hear(news.events);
      });
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
  void reload();
  return {
    connection,
    status,
    scaling,
    events,
    curves,
    lastRoundMs,
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
