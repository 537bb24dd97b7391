/**
 * @file A worker's side of the protocol as a pure reducer: connect, introduce yourself, load θ, pull leases, return what
 * was computed; come back with the same identity after every loss of the connection. run.ts carries the effects out.
 */
import type { Backend } from "../engine/engine.ts";
import type { Answer } from "../engine/examination.ts";
import { randomUniform } from "../numerics/rng.ts";
import { allocatePayload } from "../wire/frame.ts";
import type { Acceptable, CoordinatorMessage, Fallback, LeaseId, Progress, RunDescription, Version, WorkerId, WorkerMessage } from "../wire/protocol.ts"; // prettier-ignore
import { PROTOCOL_VERSION } from "../wire/protocol.ts";
import type { ComputeCommand, ComputeEvent } from "./commands.ts";

export type SessionConfig = {
  readonly kind: "node" | "browser";
  readonly name: string;
  /** The machine in a few words, for the operator; at most 128 characters. */
  readonly device?: string;
  readonly token: string | null;
  /** The coordinator's HTTP origin. */
  readonly url: string;
  /** Spreads the reconnects of many workers. */
  readonly seed: number;
};

export type Phase =
  | { readonly name: "connecting" }
  /** `hello` is sent. */
  | { readonly name: "greeting" }
  /** The engine is being made, or θ fetched and the engine warmed up. */
  | { readonly name: "loading"; readonly what: string }
  | { readonly name: "working" }
  | { readonly name: "offline"; readonly retryAtMs: number; readonly reason: string }
  /** Asked not to work for a while: leases are given back, and nothing is connected. θ and the engine stay. */
  | { readonly name: "resting"; readonly reason: string }
  /** For good: the run is finished, the user stopped, or the coordinator refused this worker. */
  | { readonly name: "ended"; readonly reason: string; readonly ok: boolean };

export type SessionState = {
  readonly phase: Phase;
  readonly identity: { readonly worker: WorkerId; readonly secret: string } | null;
  readonly run: RunDescription | null;
  /** The engine in use; null before it is prepared. */
  readonly engine: { readonly backend: Backend; readonly fallbacks: readonly Fallback[] } | null;
  /** Its examination. Shown at every connection: the coordinator keeps no memory of whom it admitted. */
  readonly examined: { readonly unitMs: number; readonly answer: Answer } | null;
  /** The θ that the compute thread holds. */
  readonly held: { readonly version: Version; readonly hash: string } | null;
  readonly leases: ReadonlySet<LeaseId>;
  readonly pullOpen: boolean;
  readonly heartbeatMs: number;
  readonly lastSentMs: number;
  readonly lastHeardMs: number;
  /** Failed connections in a row. */
  readonly attempts: number;
  readonly unitsDone: number;
  readonly progress: Progress | null;
  /** The last refusal or failure, in words, for the person at the machine. */
  readonly notice: string | null;
};

export type SessionEvent =
  | { readonly type: "opened" }
  | { readonly type: "message"; readonly message: CoordinatorMessage; readonly payload: Uint8Array }
  | { readonly type: "closed"; readonly reason: string }
  | { readonly type: "computed"; readonly event: ComputeEvent }
  | { readonly type: "tick" }
  /** Give everything back and disconnect, until `resume`. */
  | { readonly type: "rest"; readonly reason: string }
  | { readonly type: "resume" }
  /** The machine went offline, came back or woke up: the connection may be dead, and trying a new one may work now. */
  | { readonly type: "network"; readonly reason: string }
  | { readonly type: "stop"; readonly reason: string };

export type SessionEffect =
  | { readonly type: "connect" }
  | { readonly type: "disconnect"; readonly reason: string }
  | { readonly type: "send"; readonly message: WorkerMessage; readonly payload?: Uint8Array<ArrayBuffer> }
  | { readonly type: "compute"; readonly command: ComputeCommand }
  | { readonly type: "remember"; readonly identity: { readonly worker: WorkerId; readonly secret: string } };

export type SessionStep = { readonly state: SessionState; readonly effects: readonly SessionEffect[] };

/** Three missed heartbeats: one lost is a hiccup, three a dead connection. */
const MISSED_HEARTBEATS = 3;

/** First retry after about this long; doubles up to {@link RETRY_MAX_MS}. */
const RETRY_MIN_MS = 250;

/** A coordinator that comes back is found within half a minute, and is not hammered while it is away. */
const RETRY_MAX_MS = 15_000;

export function initialSession(identity: SessionState["identity"]): SessionState {
  return {
    phase: { name: "connecting" },
    identity,
    run: null,
    engine: null,
    examined: null,
    held: null,
    leases: new Set(),
    pullOpen: false,
    heartbeatMs: 5000,
    lastSentMs: 0,
    lastHeardMs: 0,
    attempts: 0,
    unitsDone: 0,
    progress: null,
    notice: null,
  };
}

export function sessionStep(
  state: SessionState,
  event: SessionEvent,
  config: SessionConfig,
  nowMs: number,
): SessionStep {
  if (state.phase.name === "ended") return { state, effects: [] };
  switch (event.type) {
    case "opened": {
      if (state.phase.name === "resting") return { state, effects: [] };
      const message: WorkerMessage = {
        type: "hello",
        protocolVersion: PROTOCOL_VERSION,
        kind: config.kind,
        name: config.name,
        ...(config.device === undefined ? {} : { device: config.device }),
        ...(config.token === null ? {} : { token: config.token }),
        ...(state.identity === null ? {} : { resume: state.identity }),
      };
      return send({ ...state, phase: { name: "greeting" }, lastHeardMs: nowMs }, message, nowMs);
    }
    case "message":
      // What was on its way when the connection was given up.
      if (state.phase.name === "resting") return { state, effects: [] };
      return onMessage({ ...state, lastHeardMs: nowMs }, event.message, event.payload, config, nowMs);
    case "closed":
      return goOffline(state, event.reason, config, nowMs);
    case "computed":
      return onComputed(state, event.event, nowMs);
    case "tick":
      return onTick(state, config, nowMs);
    case "rest":
      if (state.phase.name === "resting") {
        return { state: { ...state, phase: { name: "resting", reason: event.reason } }, effects: [] };
      }
      return {
        state: { ...forgetLeases(state), phase: { name: "resting", reason: event.reason }, notice: null },
        effects: goodbye(state, event.reason),
      };
    case "resume": {
      if (state.phase.name !== "resting") return { state, effects: [] };
      const next: SessionState = { ...state, phase: { name: "connecting" }, attempts: 0, lastHeardMs: nowMs };
      return { state: next, effects: [{ type: "connect" }] };
    }
    case "network": {
      if (state.phase.name === "offline") {
        return { state: { ...state, phase: { ...state.phase, retryAtMs: nowMs } }, effects: [] };
      }
      if (!isConnected(state)) return { state, effects: [] };
      const offline = goOffline({ ...state, attempts: 0 }, event.reason, config, nowMs);
      return { state: offline.state, effects: [{ type: "disconnect", reason: event.reason }, ...offline.effects] };
    }
    case "stop": {
      const ended = { ...state, phase: { name: "ended", reason: event.reason, ok: true } as const };
      return { state: ended, effects: goodbye(state, event.reason) };
    }
    default:
      return event satisfies never;
  }
}

function onMessage(
  state: SessionState,
  message: CoordinatorMessage,
  payload: Uint8Array,
  config: SessionConfig,
  nowMs: number,
): SessionStep {
  switch (message.type) {
    case "welcome": {
      // Once a connection: another one would begin a second life beside the work of the first.
      if (state.phase.name !== "greeting") return { state, effects: [] };
      const identity = { worker: message.worker, secret: message.secret };
      const next = { ...state, identity, run: message.run, heartbeatMs: message.heartbeatMs };
      const effects: SessionEffect[] = [{ type: "remember", identity }];
      // Back in a run whose θ is still held: say so, and receive only the updates in between.
      const sameRun = state.run !== null && JSON.stringify(state.run) === JSON.stringify(message.run);
      if (sameRun && state.engine !== null && state.held !== null) return becomeReady(next, effects, nowMs);
      if (sameRun && state.engine !== null) {
        effects.push(...examination(state));
        effects.push({ type: "compute", command: { type: "load", snapshot: message.snapshot } });
        return { state: { ...next, phase: { name: "loading", what: "parameters" } }, effects };
      }
      effects.push({ type: "compute", command: { type: "prepare", run: message.run, url: config.url } });
      effects.push({ type: "compute", command: { type: "load", snapshot: message.snapshot } });
      return {
        state: { ...next, engine: null, held: null, phase: { name: "loading", what: "engine and parameters" } },
        effects,
      };
    }
    case "snapshot":
      return {
        state: { ...forgetLeases(state), held: null, notice: message.reason, phase: { name: "loading", what: "parameters" } },
        effects: [
          { type: "compute", command: { type: "forget" } },
          { type: "compute", command: { type: "load", snapshot: message.snapshot } },
        ],
      }; // prettier-ignore
    case "lease": {
      const { type: _, ...lease } = message;
      if (state.leases.has(lease.lease)) return { state, effects: [] };
      // Work that was not asked for would queue up without a bound [I5].
      if (!state.pullOpen) {
        return send(state, { type: "release", lease: lease.lease, reason: "not asked for" }, nowMs);
      }
      const leases = new Set(state.leases).add(lease.lease);
      return {
        state: { ...state, leases, pullOpen: false },
        effects: [{ type: "compute", command: { type: "work", lease } }],
      };
    }
    case "update": {
      const command = { type: "apply", version: message.version, hash: message.hash, payload } as const;
      return { state, effects: [{ type: "compute", command }] };
    }
    case "waiting":
      return { state: { ...state, notice: message.reason, attempts: 0 }, effects: [] };
    case "progress": {
      const { type: _, ...progress } = message;
      return { state: { ...state, progress }, effects: [] };
    }
    case "refused": {
      const notice = `${message.code}: ${message.message}`;
      if (message.code === "wrong-answer") return replaceEngine({ ...state, notice }, message.message);
      if (message.fatal && isFinal(message.code)) {
        return {
          state: { ...state, phase: { name: "ended", reason: notice, ok: false }, notice },
          effects: [{ type: "disconnect", reason: message.code }],
        };
      }
      return message.accept === undefined
        ? { state: { ...state, notice }, effects: [] }
        : dropLeases({ ...state, notice }, message.accept, nowMs);
    }
    case "finished":
      return {
        state: { ...forgetLeases(state), phase: { name: "ended", reason: "the run is finished", ok: true } },
        effects: [
          { type: "compute", command: { type: "forget" } },
          { type: "disconnect", reason: "finished" },
        ],
      };
    default:
      return message satisfies never;
  }
}

function onComputed(state: SessionState, event: ComputeEvent, nowMs: number): SessionStep {
  switch (event.type) {
    case "prepared": {
      const { backend, fallbacks, unitMs, answer } = event;
      const next = { ...state, engine: { backend, fallbacks }, examined: { unitMs, answer } };
      if (state.phase.name !== "loading") return { state: next, effects: [] };
      // θ is there already when this engine replaces one that was refused.
      if (state.held !== null) return becomeReady(next, [], nowMs);
      return { state: { ...next, lastSentMs: nowMs }, effects: examination(next) };
    }
    case "loaded": {
      const next = { ...state, held: { version: event.version, hash: event.hash } };
      if (state.phase.name !== "loading" || state.engine === null) return { state: next, effects: [] };
      return becomeReady(next, [], nowMs, { examined: true });
    }
    case "unable":
      return {
        state: { ...forgetLeases(state), phase: { name: "ended", reason: event.reason, ok: false } },
        effects: [{ type: "disconnect", reason: event.reason.slice(0, 100) }],
      };
    case "applied":
      return { state: { ...state, held: { version: event.version, hash: event.hash } }, effects: [] };
    case "nearlyIdle":
      return pullIfWorking(state, [], nowMs);
    case "contribution": {
      if (!state.leases.has(event.lease)) return { state, effects: [] };
      const { payload, ...message } = event;
      return send({ ...state, unitsDone: state.unitsDone + event.units }, message, nowMs, payload);
    }
    case "evaluation":
      if (!state.leases.has(event.lease)) return { state, effects: [] };
      return send({ ...state, unitsDone: state.unitsDone + event.units }, event, nowMs);
    case "leaseDone": {
      if (!state.leases.has(event.lease)) return { state, effects: [] };
      const leases = new Set(state.leases);
      leases.delete(event.lease);
      const effects: SessionEffect[] = [];
      if (event.dropped > 0) {
        const reason = `${event.dropped} units dropped: a newer version arrived`;
        effects.push({ type: "send", message: { type: "release", lease: event.lease, reason } });
      }
      // Only work that came to its end shows that connecting again is worth it at once.
      const next = { ...state, leases, attempts: 0 };
      return leases.size === 0 ? pullIfWorking(next, effects, nowMs) : { state: next, effects };
    }
    case "diverged":
      if (!isConnected(state)) return { state: { ...state, held: null }, effects: [] };
      // The hash that travels with `ready` makes the coordinator answer with a snapshot.
      return send(
        { ...forgetLeases(state), held: null, notice: event.reason, phase: { name: "loading", what: "parameters" } },
        readyMessage(state, { version: event.version, hash: "0000000000000000" }),
        nowMs,
      );
    case "failed": {
      const notice = `${event.during}: ${event.message}`;
      return {
        state: { ...forgetLeases(state), held: null, notice },
        effects: [{ type: "disconnect", reason: notice.slice(0, 100) }],
      };
    }
    default:
      return event satisfies never;
  }
}

function onTick(state: SessionState, config: SessionConfig, nowMs: number): SessionStep {
  if (state.phase.name === "offline") {
    if (nowMs < state.phase.retryAtMs) return { state, effects: [] };
    return { state: { ...state, phase: { name: "connecting" }, lastHeardMs: nowMs }, effects: [{ type: "connect" }] };
  }
  if (!isConnected(state)) return { state, effects: [] };
  if (nowMs - state.lastHeardMs > MISSED_HEARTBEATS * state.heartbeatMs) {
    const reason = `nothing heard from the coordinator for ${Math.round((nowMs - state.lastHeardMs) / 1000)} s`;
    const offline = goOffline(state, reason, config, nowMs);
    return { state: offline.state, effects: [{ type: "disconnect", reason }, ...offline.effects] };
  }
  if (nowMs - state.lastSentMs >= state.heartbeatMs) return send(state, { type: "heartbeat" }, nowMs);
  return { state, effects: [] };
}

function goOffline(state: SessionState, reason: string, config: SessionConfig, nowMs: number): SessionStep {
  if (state.phase.name === "offline" || state.phase.name === "resting") return { state, effects: [] };
  const delayMs = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(state.attempts, 16));
  // Between half and all of the delay: a restarted coordinator must not meet all its workers in one instant.
  const retryAtMs = nowMs + delayMs * (0.5 + 0.5 * randomUniform(config.seed, state.attempts));
  return {
    state: {
      ...forgetLeases(state),
      phase: { name: "offline", retryAtMs, reason },
      attempts: state.attempts + 1,
      notice: reason,
    },
    effects: [{ type: "compute", command: { type: "forget" } }],
  };
}

/** The connection knows what the engine found, before it hears that the worker is ready. */
function becomeReady(
  state: SessionState,
  effects: SessionEffect[],
  nowMs: number,
  { examined = false }: { examined?: boolean } = {},
): SessionStep {
  if (state.held === null || state.engine === null) return { state, effects };
  if (!examined) effects.push(...examination(state));
  effects.push({ type: "send", message: readyMessage(state, state.held) });
  return pullIfWorking({ ...state, phase: { name: "working" }, lastSentMs: nowMs, notice: null }, effects, nowMs);
}

function readyMessage(state: SessionState, held: { version: Version; hash: string }): WorkerMessage {
  return {
    type: "ready",
    backend: state.engine?.backend ?? "cpu",
    fallbacks: state.engine?.fallbacks ?? [],
    version: held.version,
    hash: held.hash,
    unitMs: state.examined?.unitMs ?? 0,
  };
}

function examination({ engine, examined }: SessionState): SessionEffect[] {
  if (engine === null || examined === null) return [];
  const { lossSum, tokens, sketch } = examined.answer;
  // Frames are written around their payload, and this one may be sent again.
  const payload = allocatePayload(sketch.byteLength);
  payload.set(new Uint8Array(sketch.buffer, sketch.byteOffset, sketch.byteLength));
  const { backend } = engine;
  return [{ type: "send", message: { type: "examination", backend, lossSum, tokens }, payload }];
}

/** The engine computes wrong numbers: the next best one takes its place and is examined in turn. Visible as a fallback [I7]. */
function replaceEngine(state: SessionState, reason: string): SessionStep {
  return {
    state: { ...forgetLeases(state), engine: null, phase: { name: "loading", what: "another engine" } },
    effects: [
      { type: "compute", command: { type: "forget" } },
      { type: "compute", command: { type: "replaceEngine", reason: reason.slice(0, 300) } },
    ],
  };
}

function pullIfWorking(state: SessionState, effects: SessionEffect[], nowMs: number): SessionStep {
  if (state.phase.name !== "working" || state.pullOpen) return { state, effects };
  effects.push({ type: "send", message: { type: "pull" } });
  return { state: { ...state, pullOpen: true, lastSentMs: nowMs }, effects };
}

function goodbye(state: SessionState, reason: string): SessionEffect[] {
  const effects: SessionEffect[] = [{ type: "compute", command: { type: "forget" } }];
  if (isConnected(state)) effects.push({ type: "send", message: { type: "leave", reason } });
  effects.push({ type: "disconnect", reason });
  return effects;
}

function forgetLeases(state: SessionState): SessionState {
  return { ...state, leases: new Set(), pullOpen: false };
}

/** What would be refused is not sent any more, nor computed. Ids of leases grow. */
function dropLeases(state: SessionState, accept: Acceptable, nowMs: number): SessionStep {
  const before = accept.lease ?? Math.max(0, ...state.leases) + 1;
  const leases = new Set([...state.leases].filter((lease) => lease >= before));
  if (leases.size === state.leases.size) return { state, effects: [] };
  const effects: SessionEffect[] = [{ type: "compute", command: { type: "drop", before } }];
  const next = { ...state, leases };
  return leases.size === 0 ? pullIfWorking(next, effects, nowMs) : { state: next, effects };
}

function send(
  state: SessionState,
  message: WorkerMessage,
  nowMs: number,
  payload?: Uint8Array<ArrayBuffer>,
): SessionStep {
  const effect: SessionEffect = payload === undefined ? { type: "send", message } : { type: "send", message, payload };
  return { state: { ...state, lastSentMs: nowMs }, effects: [effect] };
}

function isConnected(state: SessionState): boolean {
  return state.phase.name === "greeting" || state.phase.name === "loading" || state.phase.name === "working";
}

/** Trying again would be refused again. */
function isFinal(code: string): boolean {
  return code === "protocol-version" || code === "bad-token" || code === "bad-invite" || code === "banned";
}
