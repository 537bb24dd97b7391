/** @file The run's curves as this page holds them: fetched whole, made longer by live rounds, never longer than a bound. */
import { CURVES_PATH, type Curves, type NewRounds } from "../../shared/wire/dashboard.ts";
import type { Range } from "../pages/plot.tsx";

/** More than the widest chart has pixels to tell apart at two device pixels each. */
export const POINTS = 600;

/** With more than this the curves are fetched again, downsampled. */
const MAX_POINTS = 2 * POINTS;

/** In points, each about half a pixel of a chart. */
const MAX_BEHIND = 2;

const COLUMNS = [
  "version",
  "atMs",
  "loss",
  "lossMin",
  "lossMax",
  "gradientNorm",
  "gradientNormMin",
  "gradientNormMax",
  "learningRate",
  "tokensPerSecond",
  "bytesInPerSecond",
  "bytesOutPerSecond",
  "roundMs",
  "computeMs",
  "commitMs",
  "workers",
] as const satisfies readonly (keyof Curves)[];

/** @throws Error when the coordinator does not answer as it should. */
export async function fetchCurves(range: Range | null): Promise<Curves> {
  const query = new URLSearchParams({ points: String(POINTS) });
  if (range !== null) {
    query.set("from", String(range.from));
    query.set("to", String(range.to));
  }
  const response = await fetch(`.${CURVES_PATH}?${query}`, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return (await response.json()) as Curves;
}

/** By how many of their points the curves move when they go on to this version; below 0 when they end there. */
export function pointsBetween({ from, to }: Curves, version: number): number {
  return (POINTS * (version - to)) / Math.max(1, version - from);
}

/** Whether what was drawn of a run, or of a part of it, looks different from these curves. */
export function isBehind(drawn: Curves, curves: Curves): boolean {
  return drawn.from !== curves.from || Math.abs(pointsBetween(drawn, curves.to)) > MAX_BEHIND;
}

/** The curves with what came after them; null when something is missing in between or they have become too long: fetch them again. */
export function append(curves: Curves, more: Curves, evaluations: Curves["evaluations"]): Curves | null {
  // What is already here came with the answer that overtook this event.
  const skip = more.version.findLastIndex((version) => version <= curves.newest) + 1;
  const isWhole = skip > 0 || more.from <= curves.newest + 1;
  if (!isWhole || curves.version.length + more.version.length - skip > MAX_POINTS) return null;
  const columns = COLUMNS.map((name) => [name, [...curves[name], ...more[name].slice(skip)]]);
  return {
    ...curves,
    ...(Object.fromEntries(columns) as Pick<Curves, (typeof COLUMNS)[number]>),
    to: Math.max(curves.to, more.to),
    newest: Math.max(curves.newest, more.newest),
    evaluations: appendEvaluations(curves.evaluations, evaluations),
  };
}

/** The same for several in a row. */
export function appendAll(curves: Curves, news: readonly NewRounds[]): Curves | null {
  return news.reduce<Curves | null>((longer, { curves: more, evaluations }) => (longer === null ? null : append(longer, more, evaluations)), curves); // prettier-ignore
}

function appendEvaluations(known: Curves["evaluations"], more: Curves["evaluations"]): Curves["evaluations"] {
  const first = more.version.findIndex((version) => version > (known.version.at(-1) ?? -1));
  if (first < 0) return known;
  return {
    version: [...known.version, ...more.version.slice(first)].slice(-MAX_POINTS),
    loss: [...known.loss, ...more.loss.slice(first)].slice(-MAX_POINTS),
  };
}
