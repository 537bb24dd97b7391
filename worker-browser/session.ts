/** @file The session thread (a dedicated worker): the socket, heartbeats and reconnects of one tab, and its compute thread. */
import { runSession } from "../shared/worker/run.ts";
import type { RunningSession } from "../shared/worker/run.ts";
import { createComputeHost } from "./computeHost.ts";
import { bytesInLastHour, recordBytes, restReason } from "./guest.ts";
import type { GuestSituation, RestReason } from "./guest.ts";
import type { PageToSession, SessionToPage } from "./messages.ts";
import { connectSocket } from "./socket.ts";

const post = (message: SessionToPage): void => self.postMessage(message);

type Joined = {
  readonly stop: (reason: string) => void;
  readonly guest: (guest: GuestSituation) => void;
  readonly network: (reason: string) => void;
  readonly timeKernels: () => void;
};

let joined: Joined | null = null;

/** How soon a limit that is reached, or a plug that is pulled, is noticed. */
const LOOK_MS = 250;

const REPORT_USAGE_MS = 1000;

self.addEventListener("message", ({ data }: MessageEvent<PageToSession>) => {
  switch (data.type) {
    case "join":
      joined = join(data);
      break;
    case "guest":
      joined?.guest(data.guest);
      break;
    case "network":
      joined?.network(data.reason);
      break;
    case "timeKernels":
      joined?.timeKernels();
      break;
    case "stop":
      joined?.stop(data.reason);
      break;
    default:
      data satisfies never;
  }
});

function join(request: Extract<PageToSession, { type: "join" }>): Joined {
  const { config, identity, socketUrl, force } = request;
  let { guest, record } = request;
  /** Sockets that have not closed yet: the goodbye must leave before this thread does. */
  let open = 0;
  let resting: RestReason | null = null;
  let [bytesUp, bytesDown, largestUp, largestDown, snapshotBytes] = [0, 0, 0, 0, 0];
  let [computeMs, workingMs] = [0, 0];

  const count = (direction: "up" | "down", bytes: number): void => {
    record = recordBytes(record, bytes, Date.now());
    if (direction === "up") bytesUp += bytes;
    else bytesDown += bytes;
    // Before the next frame, but not in the middle of what this one set off.
    if (guest.preferences.megabytesPerHour !== null) queueMicrotask(look);
  };
  const over = (): boolean => session.state().phase.name === "ended";
  const compute = createComputeHost({
    force,
    onEvent: (event) => {
      if (event.type === "contribution" || event.type === "evaluation") computeMs += event.computeMs;
      session.computed(event);
    },
    onDevice: post,
    onKernels: post,
    onWarmUp: (warmUp) => post({ type: "warmUp", warmUp }),
    onFetched: (bytes, isSnapshot) => {
      count("down", bytes);
      if (isSnapshot) snapshotBytes = bytes;
    },
    onSmallerPieces: (smallerPieces) => post({ type: "smallerPieces", smallerPieces }),
    onGivingUp: (reason) => {
      post({ type: "gaveUp", reason });
      stop(reason);
    },
  });
  compute.command({ type: "pace", dutyCycle: guest.preferences.intensity });
  const session: RunningSession = runSession(
    config,
    {
      connect: (handlers) => {
        open += 1;
        const closed: typeof handlers = {
          ...handlers,
          onClose: (reason) => {
            open -= 1;
            handlers.onClose(reason);
            if (open === 0 && over()) self.close();
          },
        };
        return connectSocket(socketUrl, closed, (direction, bytes) => {
          count(direction, bytes);
          if (direction === "up") largestUp = Math.max(largestUp, bytes);
          else largestDown = Math.max(largestDown, bytes);
        });
      },
      compute: compute.command,
      nowMs: () => performance.now(),
      every: (ms, callback) => {
        const timer = setInterval(callback, ms);
        return () => clearInterval(timer);
      },
      remember: (known) => post({ type: "remember", identity: known }),
      onChange: (state) => {
        post({ type: "state", state });
        if (state.phase.name !== "ended") return;
        compute.terminate();
        for (const timer of timers) clearInterval(timer);
        if (open === 0) self.close();
      },
    },
    identity,
  );

  /** Rests or comes back, by what the volunteer asked for and what the machine says. */
  function look(): void {
    if (over()) return;
    const roundBytes = largestUp + largestDown;
    const use = { bytesLastHour: bytesInLastHour(record, Date.now()), roundBytes, returnBytes: snapshotBytes + roundBytes }; // prettier-ignore
    const reason = restReason(guest, use, resting);
    if (reason !== null && reason !== resting) session.rest(reason);
    else if (reason === null && resting !== null) session.resume();
    resting = reason;
  }
  let lookedMs = performance.now();
  const lookAround = (): void => {
    const nowMs = performance.now();
    if (session.state().phase.name === "working") workingMs += nowMs - lookedMs;
    lookedMs = nowMs;
    look();
  };
  const reportUsage = (): void => {
    const bytesLastHour = bytesInLastHour(record, Date.now());
    const roundBytes = largestUp + largestDown;
    const usage = { bytesUp, bytesDown, bytesLastHour, record, roundBytes, returnBytes: snapshotBytes + roundBytes, computeMs, workingMs }; // prettier-ignore
    post({ type: "usage", usage });
  };
  const timers = [setInterval(lookAround, LOOK_MS), setInterval(reportUsage, REPORT_USAGE_MS)];
  look();

  const stop = (reason: string): void => {
    // Before the goodbye: whoever presses Stop wants the machine back now.
    compute.terminate();
    session.stop(reason);
  };
  return {
    stop,
    guest: (next) => {
      if (next.preferences.intensity !== guest.preferences.intensity) {
        compute.command({ type: "pace", dutyCycle: next.preferences.intensity });
        // What was kept to before says nothing of what is kept to now.
        [computeMs, workingMs] = [0, 0];
      }
      guest = next;
      look();
    },
    network: session.networkChanged,
    timeKernels: compute.timeKernels,
  };
}
