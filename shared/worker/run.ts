/** @file Carries out what the session decides: the only place where a worker's socket, clock and compute thread meet. */
import { decodeFrame, encodeFrame, encodeFrameInPlace } from "../wire/frame.ts";
import { ProtocolError } from "../wire/protocol.ts";
import type { WorkerMessage } from "../wire/protocol.ts";
import type { Transport, TransportHandlers } from "../wire/transport.ts";
import { validateCoordinatorMessage } from "../wire/validate.ts";
import type { ComputeCommand, ComputeEvent } from "./commands.ts";
import { initialSession, sessionStep } from "./session.ts";
import type { SessionConfig, SessionEvent, SessionState } from "./session.ts";

export type SessionPorts = {
  readonly connect: (handlers: TransportHandlers) => Transport;
  /** Hands a command to the compute thread; its events come back through {@link RunningSession.computed}. */
  readonly compute: (command: ComputeCommand) => void;
  readonly nowMs: () => number;
  /** Calls back about every `ms` until the returned function is called. */
  readonly every: (ms: number, callback: () => void) => () => void;
  /** Keeps the identity beyond this process, so that a restart is the same worker. */
  readonly remember: (identity: NonNullable<SessionState["identity"]>) => void;
  readonly onChange: (state: SessionState) => void;
};

export type RunningSession = {
  readonly state: () => SessionState;
  readonly computed: (event: ComputeEvent) => void;
  /** Gives leases back, says goodbye and disconnects, until `resume`; the engine and θ stay. */
  readonly rest: (reason: string) => void;
  readonly resume: () => void;
  /** The network of this machine changed: makes sure of the connection now, not when a heartbeat is missed. */
  readonly networkChanged: (reason: string) => void;
  /** Gives leases back, says goodbye and closes; `onChange` reports the end. */
  readonly stop: (reason: string) => void;
};

/** Heartbeats, retries and the watchdog are decided at this grain. */
const TICK_MS = 200;

export function runSession(
  config: SessionConfig,
  ports: SessionPorts,
  identity: SessionState["identity"],
): RunningSession {
  let state = initialSession(identity);
  let transport: Transport | null = null;
  /** Raised with each connection: events of an earlier one are nobody's any more. */
  let connection = 0;
  const stopTicking = ports.every(TICK_MS, () => dispatch({ type: "tick" }));

  function dispatch(event: SessionEvent): void {
    const step = sessionStep(state, event, config, ports.nowMs());
    const changed = step.state !== state;
    state = step.state;
    for (const effect of step.effects) {
      switch (effect.type) {
        case "connect":
          connect();
          break;
        case "disconnect":
          transport?.close(effect.reason);
          break;
        case "send":
          send(effect.message, effect.payload);
          break;
        case "compute":
          ports.compute(effect.command);
          break;
        case "remember":
          ports.remember(effect.identity);
          break;
        default:
          effect satisfies never;
      }
    }
    if (state.phase.name === "ended") stopTicking();
    if (changed) ports.onChange(state);
  }

  function send(message: WorkerMessage, payload: Uint8Array<ArrayBuffer> | undefined): void {
    if (payload === undefined) transport?.send(encodeFrame(message));
    else {
      const recycle = (): void => ports.compute({ type: "recycle", buffer: payload.buffer });
      transport?.send(encodeFrameInPlace(message, payload), recycle);
    }
  }

  function connect(): void {
    connection += 1;
    const mine = connection;
    const current = (): boolean => mine === connection;
    transport = ports.connect({
      onOpen: () => current() && dispatch({ type: "opened" }),
      onFrame: (bytes) => current() && receive(bytes),
      onClose: (reason) => current() && dispatch({ type: "closed", reason }),
    });
  }

  function receive(bytes: Uint8Array): void {
    try {
      const frame = decodeFrame(bytes);
      const message = validateCoordinatorMessage(frame.header, frame.payload.length);
      dispatch({ type: "message", message, payload: frame.payload });
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      transport?.close(error.code);
      dispatch({ type: "closed", reason: `the coordinator sent a message that is not understood: ${error.message}` });
    }
  }

  connect();
  return {
    state: () => state,
    computed: (event) => dispatch({ type: "computed", event }),
    rest: (reason) => dispatch({ type: "rest", reason }),
    resume: () => dispatch({ type: "resume" }),
    networkChanged: (reason) => dispatch({ type: "network", reason }),
    stop: (reason) => dispatch({ type: "stop", reason }),
  };
}
