/** @file Who may not come back, and lifting that. */
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { dateTime } from "../pages/format.ts";
import { perform } from "./controls.tsx";
import { ScrollTable } from "./scrollTable.tsx";
import { words } from "./words.ts";

type Ban = {
  readonly worker: string;
  readonly atMs: number;
  readonly reason: string;
};

/** Null until somebody with the admin token asked for them. */
const bans = signal<readonly Ban[] | null>(null);

export async function ban(worker: string, action: string): Promise<void> {
  const answer = await perform(action, "POST", "ban", { worker });
  if (answer !== null && bans.value !== null) await look();
}

async function look(): Promise<void> {
  const answer = await perform(words().bans.list, "GET", "bans");
  if (answer !== null) bans.value = (answer as { readonly bans: readonly Ban[] }).bans;
}

async function lift(worker: string): Promise<void> {
  const answer = await perform(words().bans.liftWho(worker), "POST", "unban", { worker });
  // Gone at once, so that what was done stays said.
  if (answer !== null) bans.value = bans.value?.filter((one) => one.worker !== worker) ?? null;
}

export function Bans(): VNode {
  const text = words().bans;
  return (
    <section class="card" aria-labelledby="bans">
      <div class="heading">
        <h2 id="bans">{text.title}</h2>
        <button type="button" onClick={() => void look()}>
          {text.list}
        </button>
      </div>
      <p class="soft">{text.about}</p>
      {bans.value === null ? null : bans.value.length === 0 ? (
        <p class="soft">{text.none}</p>
      ) : (
        <ScrollTable
          label={text.title}
          columns={[{ title: text.worker }, { title: text.since }, { title: text.reason }, { title: text.lift }]}
          isTall
        >
          {bans.value.map(({ worker, atMs, reason }) => (
            <tr key={worker}>
              <td>
                <code>{worker}</code>
              </td>
              <td>{dateTime(atMs)}</td>
              <td class="what">{reason === "" ? "–" : reason}</td>
              <td>
                <button type="button" aria-label={text.liftWho(worker)} onClick={() => void lift(worker)}>
                  {text.lift}
                </button>
              </td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}
