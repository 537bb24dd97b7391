/** @file The playground's state, as signals: which versions there are, which are looked at, and the thread that computes. */
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { CHECKPOINTS_PATH, type Checkpoint, type Checkpoints } from "../../shared/wire/dashboard.ts";
import type { TfjsBackend } from "../messages.ts";
import { createClient, type Client } from "./client.ts";
import type { EngineNews } from "./messages.ts";

export type Playground = {
  /** Oldest first. */
  readonly versions: Signal<readonly Checkpoint[]>;
  /** The hash of the one that is looked at, and of the one beside it. */
  readonly chosen: Signal<string | null>;
  readonly compared: Signal<string | null>;
  readonly client: Signal<Client | null>;
  readonly engine: Signal<EngineNews | null>;
  /** The version that is being fetched. */
  readonly loading: Signal<number | null>;
  readonly isUnreachable: Signal<boolean>;
  readonly refresh: () => Promise<void>;
  readonly find: (hash: string | null) => Checkpoint | null;
  /** The text that was written last, prompt included. */
  readonly text: Signal<string>;
};

const RETRY_MS = 3000;

export function createPlayground(force: TfjsBackend | null): Playground {
  const versions = signal<readonly Checkpoint[]>([]);
  const chosen = signal<string | null>(null);
  const compared = signal<string | null>(null);
  const client = signal<Client | null>(null);
  const engine = signal<EngineNews | null>(null);
  const loading = signal<number | null>(null);
  const isUnreachable = signal(false);
  const text = signal("");
  const find = (hash: string | null): Checkpoint | null => versions.value.find((version) => version.hash === hash) ?? null; // prettier-ignore

  async function refresh(): Promise<void> {
    try {
      const response = await fetch(`.${CHECKPOINTS_PATH}`, { signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const { checkpoints, tokenizerPath } = (await response.json()) as Checkpoints;
      isUnreachable.value = false;
      // The thread is a file elsewhere: what is relative to the page is not relative to it.
      versions.value = checkpoints.map((version) => ({ ...version, path: new URL(version.path, location.href).href }));
      chosen.value = checkpoints.at(-1)?.hash ?? null;
      // The earliest that has seen anything, beside the newest: how it came to be.
      if (find(compared.value) === null) compared.value = checkpoints.length > 1 ? (checkpoints[0]?.hash ?? null) : null; // prettier-ignore
      client.value ??= createClient({
        tokenizerUrl: new URL(tokenizerPath, location.href).href,
        force,
        onNews: (news) => {
          if (news.type === "engine") engine.value = news;
          else loading.value = news.version;
        },
      });
    } catch {
      isUnreachable.value = true;
      setTimeout(() => void refresh(), RETRY_MS);
    }
  }

  void refresh();
  return { versions, chosen, compared, client, engine, loading, isUnreachable, refresh, find, text };
}
