/**
 * @file The coordinator's side of every connection, as coordinator/edge/sockets.ts keeps it, over simulated connections: real bytes are
 * decoded and validated, order is checked, silence is noticed. (sockets.ts itself needs real sockets; its own tests have them.)
 */
import type { Run } from "../../../coordinator/round/run.ts";
import { decodeFrame, encodeFrame, FRAME_OVERHEAD_BYTES } from "../../../shared/wire/frame.ts";
import { ProtocolError } from "../../../shared/wire/protocol.ts";
import type { Acceptable, CoordinatorMessage, RefusalCode, WorkerId } from "../../../shared/wire/protocol.ts";
import { validateWorkerMessage } from "../../../shared/wire/validate.ts";

export type GateConfig = {
  readonly maxPayloadBytes: number;
  readonly heartbeatMs: number;
  readonly nowMs: () => number;
  readonly run: () => Run;
  /** Secrets of every worker that was ever here. */
  readonly secrets: Map<string, string>;
  readonly newWorker: () => WorkerId;
};

/** One connection as the coordinator sees it. */
export type GateConnection = {
  readonly receive: (bytes: Uint8Array) => void;
  /** The other side closed, or died. */
  readonly closed: (reason: string) => void;
};

export type Gate = {
  readonly accept: (toWorker: { send: (bytes: Uint8Array) => void; close: (reason: string) => void }) => GateConnection;
  readonly send: (worker: WorkerId, message: CoordinatorMessage, payload?: Uint8Array) => void;
  readonly refuse: (worker: WorkerId, code: RefusalCode, message: string, options: { fatal: boolean; accept?: Acceptable | undefined }) => void; // prettier-ignore
  readonly watch: () => void;
  /** Connections that are open. */
  readonly size: () => number;
  /** The process is gone: every connection with it. */
  readonly die: (reason: string) => void;
};

type Connection = {
  readonly send: (bytes: Uint8Array) => void;
  readonly close: (reason: string) => void;
  worker: WorkerId | null;
  ready: boolean;
  lastHeardMs: number;
};

/** What a worker may say between `hello` and `ready`. */
const beforeReady: ReadonlySet<string> = new Set(["examination", "heartbeat", "leave"]);

const HANDSHAKE_MS = 10_000;
const MISSED_HEARTBEATS = 3;

export function createGate(config: GateConfig): Gate {
  const connections = new Set<Connection>();
  const byWorker = new Map<WorkerId, Connection>();
  let dead = false;

  function drop(connection: Connection, reason: string): void {
    if (!connections.delete(connection)) return;
    connection.close(reason);
    const { worker } = connection;
    if (worker === null || byWorker.get(worker) !== connection) return;
    byWorker.delete(worker);
    config.run().gone(worker, reason);
  }

  function refuseConnection(
    connection: Connection,
    code: RefusalCode,
    message: string,
    fatal: boolean,
    accept?: Acceptable,
  ): void {
    connection.send(
      encodeFrame({ type: "refused", code, message: message.slice(0, 1000), fatal, ...(accept && { accept }) }),
    );
    if (fatal) drop(connection, code);
  }

  function receive(connection: Connection, bytes: Uint8Array): void {
    if (!connections.has(connection)) return;
    connection.lastHeardMs = config.nowMs();
    try {
      if (bytes.length > config.maxPayloadBytes + FRAME_OVERHEAD_BYTES) throw new ProtocolError("too-large", `${bytes.length} bytes`); // prettier-ignore
      const frame = decodeFrame(bytes);
      const message = validateWorkerMessage(frame.header, frame.payload.length);
      if (message.type === "hello") {
        if (connection.worker !== null) throw new ProtocolError("out-of-order", "a second hello");
        const { resume } = message;
        const known = resume !== undefined && config.secrets.get(resume.worker) === resume.secret;
        if (known && config.run().isBanned(resume.worker)) throw new ProtocolError("banned", "banned by the operator");
        const worker = known ? resume.worker : config.newWorker();
        const ghost = byWorker.get(worker);
        if (ghost !== undefined) {
          byWorker.delete(worker);
          ghost.worker = null;
          drop(ghost, "connected again");
        }
        connection.worker = worker;
        byWorker.set(worker, connection);
        config.run().joined(worker, { kind: message.kind, name: message.name, secret: config.secrets.get(worker) ?? `s${worker}` }); // prettier-ignore
        return;
      }
      if (connection.worker === null) throw new ProtocolError("out-of-order", `${message.type} before hello`);
      if (message.type === "ready") connection.ready = true;
      else if (!connection.ready && !beforeReady.has(message.type)) {
        throw new ProtocolError("out-of-order", `${message.type} before ready`);
      }
      config.run().received(connection.worker, message, frame.payload);
      if (message.type === "leave") drop(connection, message.reason);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      config.run().refused(connection.worker, error.code, error.message);
      refuseConnection(connection, error.code, error.message, error.fatal);
    }
  }

  return {
    accept(toWorker) {
      const connection: Connection = { ...toWorker, worker: null, ready: false, lastHeardMs: config.nowMs() };
      connections.add(connection);
      return {
        receive: (bytes) => receive(connection, bytes),
        closed: (reason) => drop(connection, reason),
      };
    },
    send(worker, message, payload) {
      if (!dead) byWorker.get(worker)?.send(encodeFrame(message, payload));
    },
    refuse(worker, code, message, { fatal, accept }) {
      const connection = byWorker.get(worker);
      if (connection !== undefined && !dead) refuseConnection(connection, code, message, fatal, accept);
    },
    watch() {
      for (const connection of connections) {
        const silentMs = config.nowMs() - connection.lastHeardMs;
        if (connection.worker === null && silentMs > HANDSHAKE_MS)
          refuseConnection(connection, "handshake-timeout", "no hello", true); // prettier-ignore
        else if (silentMs > MISSED_HEARTBEATS * config.heartbeatMs) drop(connection, "heartbeats stopped");
      }
    },
    size: () => byWorker.size,
    die(reason) {
      dead = true;
      const open = [...connections];
      connections.clear();
      byWorker.clear();
      for (const { close } of open) close(reason);
    },
  };
}
