/** @file One tab's part in the run: joins, rests, stops, and knows what is going on. Shows nothing: words.ts and app.tsx do. */
import type { SessionState } from "../../shared/worker/session.ts";
import type { DataRecord, GuestSituation } from "../guest.ts";
import type { KernelsMessage, PageToSession, SessionToPage, SmallerPieces, Usage, WarmUp } from "../messages.ts";
import { recallIdentity, rememberIdentity } from "./identity.ts";
import { holdTabLock } from "./tabLock.ts";
import type { TabLock } from "./tabLock.ts";

export type VolunteerState =
  | { readonly name: "idle" }
  /** Another tab of this browser takes part already. */
  | { readonly name: "elsewhere" }
  /** Another tab of this browser took this one's part over. */
  | { readonly name: "moved" }
  | {
      readonly name: "joined";
      readonly session: SessionState | null;
      readonly device: string | null;
      /** Null where the device cannot tell, or did not manage to; what it told, and whether it was asked. */
      readonly kernels: null | { readonly isAsked: boolean; readonly kinds: KernelsMessage["kernels"] };
      /** The last thing that was waited for. */
      readonly warmUp: WarmUp | null;
      readonly smallerPieces: SmallerPieces | null;
      readonly usage: Usage | null;
      /** When this tab last had work; between two rounds it has none for an instant, which is not worth a word. */
      readonly lastWorkMs: number;
    }
  | { readonly name: "over"; readonly reason: string; readonly ok: boolean; readonly session: SessionState | null };

export type VolunteerPorts = {
  readonly token: string | null;
  /** The only backend to use; null: the best that works. */
  readonly force: string | null;
  readonly onChange: () => void;
  /** The bytes of the last hour, to be kept for the next visit. */
  readonly onData: (record: DataRecord) => void;
};

export type JoinRequest = {
  /** Empty: anonymous. */
  readonly name: string;
  readonly guest: GuestSituation;
  readonly record: DataRecord;
  /** Also when another tab of this browser takes part: it stops then. */
  readonly takeOver: boolean;
};

export type Volunteer = {
  readonly state: () => VolunteerState;
  readonly join: (request: JoinRequest) => Promise<void>;
  /** What the volunteer wants and the machine says, whenever either changes. */
  readonly guest: (guest: GuestSituation) => void;
  readonly network: (reason: string) => void;
  /** Asks once. */
  readonly timeKernels: () => void;
  readonly stop: (reason: string) => void;
};

export function createVolunteer({ token, force, onChange, onData }: VolunteerPorts): Volunteer {
  let state: VolunteerState = { name: "idle" };
  let thread: Worker | null = null;
  let lock: TabLock | null = null;

  const joined = (): boolean => state.name === "joined";

  function become(next: VolunteerState): void {
    state = next;
    onChange();
  }

  function end(next: VolunteerState): void {
    if (state.name !== "joined") return;
    // The thread ends by itself when its goodbye is sent.
    thread = null;
    lock?.release();
    lock = null;
    become(next);
  }

  const over = (reason: string, ok: boolean): VolunteerState => ({
    name: "over",
    reason,
    ok,
    session: state.name === "joined" ? state.session : null,
  });

  function receive(message: SessionToPage): void {
    if (state.name !== "joined") return;
    switch (message.type) {
      case "state": {
        const lastWorkMs = message.state.leases.size > 0 ? performance.now() : state.lastWorkMs;
        become({ ...state, session: message.state, lastWorkMs });
        const { phase } = message.state;
        if (phase.name === "ended") end(over(phase.reason, phase.ok));
        break;
      }
      case "remember":
        rememberIdentity(message.identity);
        break;
      case "device":
        become({
          ...state,
          device: message.device,
          kernels: message.timesKernels ? { isAsked: false, kinds: null } : null,
        });
        break;
      case "kernels":
        become({ ...state, kernels: message.kernels === null ? null : { isAsked: true, kinds: message.kernels } });
        break;
      case "warmUp":
        become({ ...state, warmUp: message.warmUp });
        break;
      case "smallerPieces":
        become({ ...state, smallerPieces: message.smallerPieces });
        break;
      case "usage":
        onData(message.usage.record);
        become({ ...state, usage: message.usage });
        break;
      case "gaveUp":
        end(over(message.reason, false));
        break;
      default:
        message satisfies never;
    }
  }

  function say(message: PageToSession): void {
    thread?.postMessage(message);
  }

  function stop(reason: string, next: VolunteerState): void {
    say({ type: "stop", reason });
    end(next);
  }

  return {
    state: () => state,
    join: async ({ name, guest, record, takeOver }) => {
      if (joined()) return;
      become({ name: "joined", session: null, device: null, kernels: null, warmUp: null, smallerPieces: null, usage: null, lastWorkMs: Number.NEGATIVE_INFINITY }); // prettier-ignore
      const held = await holdTabLock({ takeOver });
      if (held === null) {
        become({ name: "elsewhere" });
        return;
      }
      // Stopped while the lock was being asked for.
      if (!joined()) {
        held.release();
        return;
      }
      lock = held;
      void held.stolen.then(() => lock === held && stop("another tab took over", { name: "moved" }));
      const mine = new Worker(new URL("../session.ts", import.meta.url), { type: "module", name: "manyhands session" });
      thread = mine;
      mine.addEventListener("message", ({ data }: MessageEvent<SessionToPage>) => {
        if (mine === thread) receive(data);
      });
      mine.addEventListener("error", (event) => {
        if (mine !== thread) return;
        mine.terminate();
        end(over(`something broke in this page: ${event.message}`, false));
      });
      const socketUrl = new URL("socket", location.href);
      socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      socketUrl.search = "";
      socketUrl.hash = "";
      const config = { kind: "browser", name, token, url: location.origin, seed: randomSeed() } as const;
      say({ type: "join", config, identity: recallIdentity(), socketUrl: socketUrl.href, force, guest, record });
    },
    guest: (guest) => say({ type: "guest", guest }),
    network: (reason) => say({ type: "network", reason }),
    timeKernels: () => {
      if (state.name !== "joined" || state.kernels === null || state.kernels.isAsked) return;
      become({ ...state, kernels: { isAsked: true, kinds: null } });
      say({ type: "timeKernels" });
    },
    stop: (reason) => stop(reason, over(reason, true)),
  };
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
