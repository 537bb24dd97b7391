/** @file Events and checkpoints, as tables. */
import { signal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { CHECKPOINTS_PATH, type Checkpoint, type Checkpoints } from "../../shared/wire/dashboard.ts";
import { bytes, count, dateTime, fixed, time } from "../pages/format.ts";
import type { Feed } from "./feed.ts";
import { ScrollTable } from "./scrollTable.tsx";
import { words } from "./words.ts";

const SHOWN_EVENTS = 50;

export function Events({ feed }: { readonly feed: Feed }): VNode {
  const text = words().events;
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const rows = feed.events.value.filter((event) => `${event.code} ${event.text}`.toLowerCase().includes(wanted));
  return (
    <section class="card" aria-labelledby="events">
      <div class="heading">
        <h2 id="events">{text.title}</h2>
        <input
          type="search"
          aria-label={text.filter}
          placeholder={text.filter}
          value={filter}
          onInput={({ currentTarget }) => setFilter(currentTarget.value)}
        />
      </div>
      {rows.length === 0 ? (
        <p class="soft">{text.none}</p>
      ) : (
        <ScrollTable
          label={text.title}
          columns={[{ title: text.time, isNumber: true }, { title: text.code }, { title: text.text }]}
          isTall
        >
          {rows.slice(0, SHOWN_EVENTS).map(({ id, atMs, code, text: what }) => (
            <tr key={id}>
              <td class="number soft">{time(atMs)}</td>
              <td>
                <code>{code}</code>
              </td>
              <td class="what">{what}</td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}

const checkpoints = signal<readonly Checkpoint[]>([]);

/** Looked up again when the run has come this much further, at the least: snapshots are rare. */
const EVERY_MS = 10_000;
let lookedMs = -Infinity;

export function CheckpointsTable({ feed }: { readonly feed: Feed }): VNode {
  const text = words().checkpoints;
  useSignalEffect(() => {
    // Read, so that this runs again when they change.
    const isOpen = feed.connection.value.name === "open";
    const hasStatus = feed.status.value !== null;
    if (!isOpen || !hasStatus || performance.now() - lookedMs < EVERY_MS) return;
    lookedMs = performance.now();
    void look();
  });
  return (
    <section class="card" aria-labelledby="checkpoints">
      <div class="heading">
        <h2 id="checkpoints">{text.title}</h2>
        <a href="./playground">{text.look}</a>
      </div>
      {checkpoints.value.length === 0 ? (
        <p class="soft">{text.none}</p>
      ) : (
        <ScrollTable
          label={text.title}
          columns={[
            { title: text.version, isNumber: true },
            { title: text.validation, isNumber: true },
            { title: text.saved },
            { title: text.size, isNumber: true },
            { title: text.hash },
            { title: text.download },
          ]}
          isTall
        >
          {[...checkpoints.value].reverse().map(({ version, hash, path, bytes: size, validationLoss, savedMs }) => (
            <tr key={path}>
              <td class="number">{count(version)}</td>
              <td class="number">{fixed(validationLoss, 3)}</td>
              <td>{savedMs === null ? text.now : dateTime(savedMs)}</td>
              <td class="number">{bytes(size)}</td>
              <td>
                <code>{hash}</code>
              </td>
              <td>
                <a href={`./${path}`} download aria-label={text.downloadWhich(version)}>
                  {text.download}
                </a>
              </td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}

async function look(): Promise<void> {
  try {
    const response = await fetch(`.${CHECKPOINTS_PATH}`, { signal: AbortSignal.timeout(10_000) });
    if (response.ok) checkpoints.value = ((await response.json()) as Checkpoints).checkpoints;
  } catch {
    // The connection's own state tells that the coordinator does not answer.
  }
}
