/**
 * @file The WebSocket side: frames in, messages out, for any number of strangers. What arrives here is decoded, validated
 * and in order before anybody else sees it [I6]; every refusal has a code; every buffer has a bound [I5].
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { decodeFrame, encodeFrame, FRAME_OVERHEAD_BYTES } from "../shared/wire/frame.ts";
import { PROTOCOL_VERSION, ProtocolError } from "../shared/wire/protocol.ts";
import type { CoordinatorMessage, RefusalCode, WorkerId, WorkerMessage } from "../shared/wire/protocol.ts";
import { validateWorkerMessage } from "../shared/wire/validate.ts";

export type SocketsConfig = {
  /** Bytes of one encoded contribution: the largest payload a worker may send. */
  readonly maxPayloadBytes: number;
  readonly heartbeatMs: number;
  /** Workers must present this when it is not null. */
  readonly token: string | null;
  readonly maxWorkers: number;
};

export type Hello = Extract<WorkerMessage, { type: "hello" }>;

export type SocketHandlers = {
  /** Who this is: the identity it proves to have, or a new one. @throws ProtocolError when it may not take part. */
  readonly identify: (hello: Hello) => { worker: WorkerId; secret: string };
  readonly onJoined: (worker: WorkerId, hello: Hello, secret: string) => void;
  readonly onMessage: (worker: WorkerId, message: Exclude<WorkerMessage, Hello>, payload: Uint8Array) => void;
  readonly onGone: (worker: WorkerId, reason: string) => void;
  readonly onRefusal: (worker: WorkerId | null, code: RefusalCode, message: string) => void;
  readonly onBytes: (direction: "in" | "out", bytes: number) => void;
};

export type Sockets = {
  readonly send: (worker: WorkerId, message: CoordinatorMessage, payload?: Uint8Array) => void;
  /** Encodes once, sends the same bytes to all. */
  readonly broadcast: (workers: Iterable<WorkerId>, message: CoordinatorMessage, payload?: Uint8Array) => void;
  readonly refuse: (
    worker: WorkerId,
    code: RefusalCode,
    message: string,
    options: { fatal: boolean; version?: number },
  ) => void;
  readonly close: (reason: string) => Promise<void>;
};

/** Where workers connect. */
export const SOCKET_PATH = "/socket";

/** A peer that opens a socket and says nothing holds it this long. */
const HANDSHAKE_MS = 10_000;

/** Three missed heartbeats: one lost is a hiccup, three a closed laptop. */
const MISSED_HEARTBEATS = 3;

/** Unsent frames for one worker, in largest frames: beyond it the worker reads too slowly to keep up. */
const MAX_BUFFERED_FRAMES = 8;

type Connection = {
  readonly socket: WebSocket;
  worker: WorkerId | null;
  ready: boolean;
  lastHeardMs: number;
};

export function openSockets(
  server: Server,
  config: SocketsConfig,
  handlers: SocketHandlers,
  nowMs: () => number,
): Sockets {
  const maxPayload = config.maxPayloadBytes + FRAME_OVERHEAD_BYTES;
  const webSockets = new WebSocketServer({
    noServer: true,
    maxPayload,
    perMessageDeflate: false,
    clientTracking: false,
  });
  const connections = new Set<Connection>();
  const byWorker = new Map<WorkerId, Connection>();

  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (new URL(request.url ?? "/", "http://localhost").pathname !== SOCKET_PATH) {
      socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
      return;
    }
    webSockets.handleUpgrade(request, socket, head, accept);
  };
  server.on("upgrade", onUpgrade);
  const watchdog = setInterval(watch, Math.min(1000, config.heartbeatMs));

  function accept(socket: WebSocket): void {
    const connection: Connection = { socket, worker: null, ready: false, lastHeardMs: nowMs() };
    connections.add(connection);
    socket.on("message", (data: Buffer, isBinary) => receive(connection, data, isBinary));
    socket.on("close", (code) => drop(connection, `connection closed (${code})`));
    // ws reports here what a peer did wrong below our protocol (a frame over maxPayload, bad masking) and then closes.
    socket.on("error", (error: Error & { code?: string }) => {
      const code = error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH" ? "too-large" : "bad-frame";
      handlers.onRefusal(connection.worker, code, error.message);
    });
    if (connections.size > config.maxWorkers) {
      refuseConnection(connection, "too-many-workers", `this coordinator takes ${config.maxWorkers} workers`, true);
    }
  }

  function receive(connection: Connection, data: Buffer, isBinary: boolean): void {
    if (!connections.has(connection)) return;
    connection.lastHeardMs = nowMs();
    handlers.onBytes("in", data.length);
    try {
      if (!isBinary) throw new ProtocolError("bad-frame", "a text frame, where frames are binary");
      const frame = decodeFrame(data);
      const message = validateWorkerMessage(frame.header, frame.payload.length);
      if (message.type === "hello") {
        hello(connection, message);
        return;
      }
      if (connection.worker === null) throw new ProtocolError("out-of-order", `${message.type} before hello`);
      if (message.type === "ready") connection.ready = true;
      else if (!connection.ready && message.type !== "heartbeat" && message.type !== "leave") {
        throw new ProtocolError("out-of-order", `${message.type} before ready`);
      }
      handlers.onMessage(connection.worker, message, frame.payload);
      if (message.type !== "leave") return;
      connection.socket.close(1000, "goodbye");
      drop(connection, message.reason);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      handlers.onRefusal(connection.worker, error.code, error.message);
      refuseConnection(connection, error.code, error.message, error.fatal);
    }
  }

  function hello(connection: Connection, message: Hello): void {
    if (connection.worker !== null) throw new ProtocolError("out-of-order", "a second hello");
    if (message.protocolVersion !== PROTOCOL_VERSION) {
      const theirs = message.protocolVersion;
      throw new ProtocolError("protocol-version", `worker speaks protocol ${theirs}, this run ${PROTOCOL_VERSION}`);
    }
    if (config.token !== null && !sameSecret(message.token ?? "", config.token)) {
      throw new ProtocolError("bad-token", "this run asks for a token; start the worker with --token");
    }
    const { worker, secret } = handlers.identify(message);
    // The same worker, back before its old connection was noticed to be dead: the old one is the ghost.
    const ghost = byWorker.get(worker);
    if (ghost !== undefined) {
      byWorker.delete(worker);
      ghost.worker = null;
      ghost.socket.terminate();
    }
    connection.worker = worker;
    byWorker.set(worker, connection);
    handlers.onJoined(worker, message, secret);
  }

  function drop(connection: Connection, reason: string): void {
    if (!connections.delete(connection)) return;
    const { worker } = connection;
    if (worker === null || byWorker.get(worker) !== connection) return;
    byWorker.delete(worker);
    handlers.onGone(worker, reason);
  }

  function watch(): void {
    for (const connection of connections) {
      const silentMs = nowMs() - connection.lastHeardMs;
      if (connection.worker === null && silentMs > HANDSHAKE_MS) {
        refuseConnection(connection, "handshake-timeout", `no hello within ${HANDSHAKE_MS} ms`, true);
      } else if (connection.worker !== null && silentMs > MISSED_HEARTBEATS * config.heartbeatMs) {
        handlers.onRefusal(connection.worker, "heartbeat-timeout", `silent for ${Math.round(silentMs)} ms`);
        // Its network is gone: a closing handshake would wait for it.
        connection.socket.terminate();
        drop(connection, "heartbeats stopped");
      }
    }
  }

  function refuseConnection(
    connection: Connection,
    code: RefusalCode,
    message: string,
    fatal: boolean,
    version?: number,
  ): void {
    const accept = version === undefined ? {} : { accept: { version } };
    write(connection, encodeFrame({ type: "refused", code, message: message.slice(0, 1000), fatal, ...accept }));
    if (!fatal) return;
    connection.socket.close(4000, code);
    drop(connection, `refused: ${code}`);
  }

  function write(connection: Connection, bytes: Uint8Array): void {
    if (connection.socket.readyState !== connection.socket.OPEN) return;
    if (connection.socket.bufferedAmount > MAX_BUFFERED_FRAMES * maxPayload) {
      handlers.onRefusal(connection.worker, "too-slow-reader", `${connection.socket.bufferedAmount} bytes unsent`);
      connection.socket.terminate();
      drop(connection, "reads too slowly");
      return;
    }
    handlers.onBytes("out", bytes.length);
    connection.socket.send(bytes);
  }

  return {
    send(worker, message, payload) {
      const connection = byWorker.get(worker);
      if (connection !== undefined) write(connection, encodeFrame(message, payload));
    },
    broadcast(workers, message, payload) {
      const bytes = encodeFrame(message, payload);
      for (const worker of workers) {
        const connection = byWorker.get(worker);
        if (connection !== undefined) write(connection, bytes);
      }
    },
    refuse(worker, code, message, { fatal, version }) {
      const connection = byWorker.get(worker);
      if (connection !== undefined) refuseConnection(connection, code, message, fatal, version);
    },
    async close(reason) {
      clearInterval(watchdog);
      server.off("upgrade", onUpgrade);
      const open = [...connections];
      const closed = open.map(({ socket }) => new Promise<void>((resolve) => socket.once("close", () => resolve())));
      for (const { socket } of open) socket.close(1001, reason.slice(0, 100));
      const cut = setTimeout(() => open.forEach(({ socket }) => socket.terminate()), 1000);
      await Promise.all(closed);
      clearTimeout(cut);
      webSockets.close();
    },
  };
}

/** A fresh secret with which a worker keeps its identity. */
export function newSecret(): string {
  return randomBytes(18).toString("base64url");
}

/** Compares in constant time: how long a refusal takes must not tell how much of a secret was right. */
export function sameSecret(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
