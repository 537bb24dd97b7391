/**
 * @file What became different in a run's status, so that a dashboard is not sent, and does not read, everything about every worker
 * again each second. Exact: {@link applyChange} of what {@link changeOf} found gives the later status.
 */
import type { Status, WorkerStatus } from "./status.ts";

export type StatusChange = {
  /** What is different of the run itself. */
  readonly run: Partial<Omit<Status, "workers">>;
  /** Places in the earlier list of the workers that left it, ascending. */
  readonly left: readonly number[];
  /** What is different of those that stayed, by field: most change in the same few, and all at once. */
  readonly fields: { readonly [Field in keyof WorkerStatus]?: Column<WorkerStatus[Field]> };
  /** They follow those that stayed. */
  readonly joined: readonly WorkerStatus[];
};

type Column<Value> = {
  /** Places in the list of those that stayed; null: all of them. */
  readonly at: readonly number[] | null;
  /** A value for each. */
  readonly to: readonly Value[];
};

export function changeOf(before: Status, after: Status): StatusChange {
  const { workers: earlier, ...runBefore } = before;
  const { workers: later, ...runAfter } = after;
  const stayed: (readonly [WorkerStatus, WorkerStatus])[] = [];
  const left: number[] = [];
  // Who joins comes last. In whatever order they stand: who is not where it is looked for is told anew.
  earlier.forEach((worker, place) => {
    const same = later[stayed.length];
    if (same?.worker === worker.worker) stayed.push([worker, same]);
    else left.push(place);
  });
  const [first] = later;
  const names = first === undefined ? [] : (Object.keys(first) as (keyof WorkerStatus)[]);
  return {
    run: differing(runBefore, runAfter),
    left,
    fields: Object.fromEntries(names.flatMap((name) => {
      const column = columnOf(stayed, name);
      return column.to.length > 0 ? [[name, column]] : [];
    })),
    joined: later.slice(stayed.length),
  }; // prettier-ignore
}

/** Workers about whom nothing changed are the same objects as before. */
export function applyChange(before: Status, { run, left, fields, joined }: StatusChange): Status {
  const gone = new Set(left);
  const workers = before.workers.filter((_, place) => !gone.has(place));
  const isChanged = new Set<number>();
  for (const [name, { at, to }] of Object.entries(fields) as [string, Column<unknown>][]) {
    to.forEach((value, i) => {
      const place = at === null ? i : (at[i] ?? -1);
      const worker = workers[place];
      if (worker === undefined) return;
      if (!isChanged.has(place)) workers[place] = { ...worker, [name]: value };
      else (worker as Record<string, unknown>)[name] = value;
      isChanged.add(place);
    });
  }
  return { ...before, ...run, workers: [...workers, ...joined] };
}

function columnOf(
  stayed: readonly (readonly [WorkerStatus, WorkerStatus])[],
  name: keyof WorkerStatus,
): Column<unknown> {
  const at: number[] = [];
  const to: unknown[] = [];
  stayed.forEach(([earlier, later], place) => {
    if (isSame(earlier[name], later[name])) return;
    at.push(place);
    to.push(later[name]);
  });
  return { at: at.length === stayed.length ? null : at, to };
}

function differing<Fields extends object>(before: Fields, after: Fields): Partial<Fields> {
  const names = Object.keys(after) as (keyof Fields)[];
  return Object.fromEntries(
    names.filter((name) => !isSame(before[name], after[name])).map((name) => [name, after[name]]),
  ) as Partial<Fields>;
}

/** Of values that are sent as JSON. */
function isSame(a: unknown, b: unknown): boolean {
  return a === b || (typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b));
}
