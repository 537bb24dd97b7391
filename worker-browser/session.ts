/** @file The session thread (a dedicated worker): the socket, heartbeats and reconnects of one tab, and its compute thread. */
import { runSession } from "../shared/worker/run.ts";
import type { RunningSession } from "../shared/worker/run.ts";
import { createComputeHost } from "./computeHost.ts";
import type { PageToSession, SessionToPage } from "./messages.ts";
import { connectSocket } from "./socket.ts";

const post = (message: SessionToPage): void => self.postMessage(message);

let stop = (_reason: string): void => {};

self.addEventListener("message", ({ data }: MessageEvent<PageToSession>) => {
  switch (data.type) {
    case "join":
      join(data);
      break;
    case "stop":
      stop(data.reason);
      break;
    default:
      data satisfies never;
  }
});

function join({ config, identity, socketUrl, force }: Extract<PageToSession, { type: "join" }>): void {
  /** Sockets that have not closed yet: the goodbye must leave before this thread does. */
  let open = 0;
  const over = (): boolean => session.state().phase.name === "ended";
  const compute = createComputeHost({
    force,
    onEvent: (event) => session.computed(event),
    onDevice: (device) => post({ type: "device", device }),
    onGivingUp: (reason) => {
      post({ type: "gaveUp", reason });
      stop(reason);
    },
  });
  const session: RunningSession = runSession(
    config,
    {
      connect: (handlers) => {
        open += 1;
        return connectSocket(socketUrl, {
          ...handlers,
          onClose: (reason) => {
            open -= 1;
            handlers.onClose(reason);
            if (open === 0 && over()) self.close();
          },
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
        if (open === 0) self.close();
      },
    },
    identity,
  );
  stop = (reason) => {
    // Before the goodbye: whoever presses Stop wants the machine back now.
    compute.terminate();
    session.stop(reason);
  };
}
