/** @file One tab's part in the run: joins, stops, and knows what is going on. Shows nothing: words.ts and view.ts do. */
import type { SessionState } from "../../shared/worker/session.ts";
import type { PageToSession, SessionToPage } from "../messages.ts";
import { recallIdentity, rememberIdentity } from "./identity.ts";
import { holdTabLock } from "./tabLock.ts";

export type VolunteerSettings = {
  /** Empty: anonymous. */
  readonly name: string;
  readonly token: string | null;
  /** The only backend to use; null: the best that works. */
  readonly force: string | null;
};

export type VolunteerState =
  | { readonly name: "idle" }
  /** Another tab of this browser takes part already. */
  | { readonly name: "elsewhere" }
  | {
      readonly name: "joined";
      readonly session: SessionState | null;
      readonly device: string | null;
      /** When this tab last had work; between two rounds it has none for an instant, which is not worth a word. */
      readonly lastWorkMs: number;
    }
  | { readonly name: "over"; readonly reason: string; readonly ok: boolean; readonly session: SessionState | null };

export type Volunteer = {
  readonly state: () => VolunteerState;
  readonly join: () => Promise<void>;
  readonly stop: (reason: string) => void;
};

export function createVolunteer({
  settings,
  onChange,
}: {
  readonly settings: VolunteerSettings;
  readonly onChange: () => void;
}): Volunteer {
  let state: VolunteerState = { name: "idle" };
  let thread: Worker | null = null;
  let unlock: (() => void) | null = null;

  const joined = (): boolean => state.name === "joined";

  function become(next: VolunteerState): void {
    state = next;
    onChange();
  }

  function end(reason: string, ok: boolean): void {
    if (state.name !== "joined") return;
    // The thread ends by itself when its goodbye is sent.
    thread = null;
    unlock?.();
    unlock = null;
    become({ name: "over", reason, ok, session: state.session });
  }

  function receive(message: SessionToPage): void {
    if (state.name !== "joined") return;
    switch (message.type) {
      case "state": {
        const lastWorkMs = message.state.leases.size > 0 ? performance.now() : state.lastWorkMs;
        become({ ...state, session: message.state, lastWorkMs });
        const { phase } = message.state;
        if (phase.name === "ended") end(phase.reason, phase.ok);
        break;
      }
      case "remember":
        rememberIdentity(message.identity);
        break;
      case "device":
        become({ ...state, device: message.device });
        break;
      case "gaveUp":
        end(message.reason, false);
        break;
      default:
        message satisfies never;
    }
  }

  return {
    state: () => state,
    join: async () => {
      if (joined()) return;
      become({ name: "joined", session: null, device: null, lastWorkMs: Number.NEGATIVE_INFINITY });
      const lock = await holdTabLock();
      if (lock === null) {
        become({ name: "elsewhere" });
        return;
      }
      // Stopped while the lock was being asked for.
      if (!joined()) {
        lock();
        return;
      }
      unlock = lock;
      const mine = new Worker(new URL("../session.ts", import.meta.url), { type: "module", name: "manyhands session" });
      thread = mine;
      mine.addEventListener("message", ({ data }: MessageEvent<SessionToPage>) => {
        if (mine === thread) receive(data);
      });
      mine.addEventListener("error", (event) => {
        if (mine !== thread) return;
        mine.terminate();
        end(`something broke in this page: ${event.message}`, false);
      });
      const socketUrl = new URL("socket", location.href);
      socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      socketUrl.search = "";
      const config = { kind: "browser", name: settings.name, token: settings.token, url: location.origin, seed: randomSeed() } as const; // prettier-ignore
      const identity = recallIdentity();
      send(mine, { type: "join", config, identity, socketUrl: socketUrl.href, force: settings.force });
    },
    stop: (reason) => {
      if (thread !== null) send(thread, { type: "stop", reason });
      end(reason, true);
    },
  };
}

function send(thread: Worker, message: PageToSession): void {
  thread.postMessage(message);
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
