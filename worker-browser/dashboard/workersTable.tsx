/** @file Who takes part: sortable, filtered, a page at a time, so that 500 workers cost no more than 20. */
import type { VNode } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { WorkerStatus } from "../../shared/wire/status.ts";
import { count, percent } from "../pages/format.ts";
import { ban } from "./bans.tsx";
import { perform } from "./controls.tsx";
import type { Feed } from "./feed.ts";
import { words, type Words } from "./words.ts";
import { inOrder, type Order, type Sort, type SortKey } from "./workerOrder.ts";

const ROWS = 20;

export function WorkersTable({ feed }: { readonly feed: Feed }): VNode {
  const text = words().workers;
  const [sort, setSort] = useState<Sort>({ key: "tokensPerSecond", down: true });
  const [filter, setFilter] = useState("");
  const [page, setPage] = useState(0);
  const all = feed.status.value?.workers ?? [];
  const body = useRef<HTMLTableSectionElement>(null);
  const order = useRef<Order | null>(null);
  const isHeld = (body.current?.querySelector("button:hover, button:focus-visible") ?? null) !== null;
  order.current = inOrder(order.current, all, { filter, sort, nowMs: performance.now(), isHeld });
  const chosen = order.current.workers;
  const pages = Math.max(1, Math.ceil(chosen.length / ROWS));
  const shown = Math.min(page, pages - 1);
  const rows = chosen.slice(shown * ROWS, (shown + 1) * ROWS);
  const head = useMemo(() => <Head sort={sort} setSort={setSort} text={text} />, [sort, text]);
  return (
    <section class="card" aria-labelledby="workers">
      <div class="heading">
        <h2 id="workers">
          {text.title} <span class="soft">{all.length}</span>
        </h2>
        <input
          type="search"
          aria-label={text.filter}
          placeholder={text.filter}
          value={filter}
          onInput={({ currentTarget }) => {
            setFilter(currentTarget.value);
            setPage(0);
          }}
        />
      </div>
      {all.length === 0 ? (
        <p class="soft">{text.none}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="group" aria-label={text.title}>
          <table class="workers">
            {head}
            <tbody ref={body}>
              {/* By place: to fill a row anew is less work than to make one. */}
              {rows.map((worker, place) => (
                <Row key={place} worker={worker} text={text} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {pages > 1 ? (
        <p class="pages">
          <button type="button" disabled={shown === 0} onClick={() => setPage(shown - 1)}>
            {text.previous}
          </button>
          <span class="soft">{text.page(shown * ROWS + 1, shown * ROWS + rows.length, chosen.length)}</span>
          <button type="button" disabled={shown === pages - 1} onClick={() => setPage(shown + 1)}>
            {text.next}
          </button>
        </p>
      ) : null}
    </section>
  );
}

function Head({
  sort,
  setSort,
  text,
}: {
  readonly sort: Sort;
  readonly setSort: (sort: Sort) => void;
  readonly text: Words["workers"];
}): VNode {
  const columns: readonly (readonly [SortKey, string])[] = [
    ["name", text.name],
    ["device", text.device],
    ["backend", text.backend],
    ["tokensPerSecond", text.speed],
    ["share", text.share],
    ["behind", text.behind],
    ["leases", text.leases],
    ["refused", text.refused],
  ];
  return (
    <thead>
      <tr>
        {columns.map(([key, title]) => (
          <th
            scope="col"
            class={isNumber(key) ? "number" : ""}
            aria-sort={sort.key !== key ? "none" : sort.down ? "descending" : "ascending"}
          >
            <button
              type="button"
              class="sort"
              title={text.sorted}
              onClick={() => setSort({ key, down: sort.key === key ? !sort.down : isNumber(key) })}
            >
              {title}
              <span aria-hidden="true">{sort.key !== key ? "" : sort.down ? " ↓" : " ↑"}</span>
            </button>
          </th>
        ))}
        <th scope="col">{text.waiting}</th>
        <th scope="col">{text.actions}</th>
      </tr>
    </thead>
  );
}

function Row({ worker, text }: { readonly worker: WorkerStatus; readonly text: Words["workers"] }): VNode {
  const { worker: id, kind, device, backend, fallbacks } = worker;
  const name = worker.name || id;
  const [fallback] = fallbacks;
  const why = fallback === undefined ? "" : text.fallback(fallback.backend, fallback.reason, fallback.backend === backend); // prettier-ignore
  // Of a row that is drawn every second only figures change: what is the same object is not looked at again.
  const about = useMemo(
    () => (
      <>
        <th scope="row">
          {name} <span class="soft">{worker.name === "" ? kind : id.slice(0, 8)}</span>
        </th>
        <td class="soft device">{device !== "" ? device : kind === "browser" ? text.tab : "–"}</td>
        <td>
          {backend ?? text.joining}
          {why === "" ? null : (
            <span class="soft" title={why}>
              {" "}
              ({shortened(why)})
            </span>
          )}
        </td>
      </>
    ),
    [id, worker.name, kind, device, backend, why, text],
  );
  const actions = useMemo(
    () => (
      <td class="buttons">
        <button
          type="button"
          aria-label={text.kickWho(name)}
          onClick={() => void perform(text.kickWho(name), "POST", "kick", { worker: id })}
        >
          {text.kick}
        </button>
        <button
          type="button"
          class="danger"
          aria-label={text.banWho(name)}
          onClick={() => {
            if (confirm(text.sureBan(name))) void ban(id, text.banWho(name));
          }}
        >
          {text.ban}
        </button>
      </td>
    ),
    [id, name, text],
  );
  return (
    <tr data-worker={id}>
      {about}
      <td class="number">{count(worker.tokensPerSecond)}</td>
      <td class="number">{percent(worker.share)}</td>
      <td class="number">{worker.behind ?? "–"}</td>
      <td class="number">{worker.leases}</td>
      <td class="number">
        {worker.refused}
        {worker.strikes > 0 ? <span class="bad"> {text.strikes(worker.strikes)}</span> : null}
      </td>
      <td class="reason soft">{worker.waitingReason}</td>
      {actions}
    </tr>
  );
}

/** All of it is in the title. */
function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60).replace(/\s+\S*$/, "")} …` : text;
}

function isNumber(key: SortKey): boolean {
  return key !== "name" && key !== "device" && key !== "backend";
}
