/** @file What the main thread of a page did, from a trace of Chromium: by task, by kind of work, by second. */

/** `ts`, `dur`, `tdur` in µs. */
export type TraceEvent = { name: string; ph: string; pid: number; tid: number; ts: number; dur?: number; tdur?: number; args?: { name?: string } }; // prettier-ignore

/** What {@link mainThread} needs. */
export const TRACE_CATEGORIES: string[] = [
  "toplevel",
  "devtools.timeline",
  "disabled-by-default-devtools.timeline",
  "__metadata",
];

/** Milliseconds of processor time: on a machine that does other things too, wall time would measure those. */
export type MainThread = {
  readonly longestTask: number;
  readonly total: number;
  /** Of each whole second from the first task on. */
  readonly seconds: readonly number[];
  /** Each kind of work without what it called, most first. */
  readonly kinds: readonly (readonly [kind: string, ms: number])[];
};

/** The busiest of the traced main threads: beside the page's own there may be that of an empty, prepared one. */
export function mainThread(events: readonly TraceEvent[]): MainThread {
  const mains = events.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain");
  const [busiest] = mains
    .map(({ pid, tid }) => events.filter((event) => event.ph === "X" && event.pid === pid && event.tid === tid))
    .map((all) => ({ all, tasks: all.filter(({ name }) => name === "RunTask") }))
    .sort((a, b) => total(b.tasks) - total(a.tasks));
  if (busiest === undefined) throw new Error("the trace has no main thread");
  const { all, tasks } = busiest;
  return {
    longestTask: Math.max(...tasks.map(processorMs)),
    total: total(tasks),
    seconds: bySecond(tasks),
    kinds: byKind(all),
  };
}

function bySecond(tasks: readonly TraceEvent[]): number[] {
  const times = tasks.map(({ ts }) => ts);
  const first = Math.min(...times);
  const sums = Array.from({ length: Math.floor((Math.max(...times) - first) / 1e6) }, () => 0);
  for (const task of tasks) {
    const second = Math.floor((task.ts - first) / 1e6);
    if (second < sums.length) sums[second]! += processorMs(task);
  }
  return sums;
}

function byKind(events: readonly TraceEvent[]): [string, number][] {
  const sums = new Map<string, number>();
  const add = (kind: string, ms: number): void => void sums.set(kind, (sums.get(kind) ?? 0) + ms);
  const open: TraceEvent[] = [];
  for (const event of [...events].sort((a, b) => a.ts - b.ts || (b.dur ?? 0) - (a.dur ?? 0))) {
    while (open.length > 0 && endOf(open.at(-1)!) <= event.ts) open.pop();
    add(event.name, processorMs(event));
    const caller = open.at(-1);
    if (caller !== undefined) add(caller.name, -processorMs(event));
    open.push(event);
  }
  return [...sums].sort(([, a], [, b]) => b - a);
}

function endOf({ ts, dur }: TraceEvent): number {
  return ts + (dur ?? 0);
}

function total(tasks: readonly TraceEvent[]): number {
  return tasks.reduce((sum, task) => sum + processorMs(task), 0);
}

function processorMs({ tdur, dur }: TraceEvent): number {
  return (tdur ?? dur ?? 0) / 1000;
}
