/**
 * @file The WebSocket side: frames in, messages out, for any number of strangers. What arrives here is decoded, validated
 * and in order before anybody else sees it [I6]; every refusal has a code; every buffer has a bound [I5].
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { decodeFrame, encodeFrame, encodeFrameInPlace, FRAME_OVERHEAD_BYTES } from "../../shared/wire/frame.ts";
import { PROTOCOL_VERSION, ProtocolError } from "../../shared/wire/protocol.ts";
import type {
  Acceptable,
  CoordinatorMessage,
  RefusalCode,
  WorkerId,
  WorkerMessage,
} from "../../shared/wire/protocol.ts";
import { validateWorkerMessage } from "../../shared/wire/validate.ts";
import { createAddressCounts, createAddressRates } from "./addressLimits.ts";
import { allowLease, allowReleases, initialAllowance, spendBytes, spendMessage } from "./allowance.ts";
import type { Allowance, Spending } from "./allowance.ts";
import { allowanceRates, connectRate, strayMessageRate } from "./limits.ts";
import type { Limits } from "./limits.ts";

export type SocketsConfig = {
  /** Bytes of one encoded contribution: the largest payload a worker may send. */
  readonly maxPayloadBytes: number;
  readonly heartbeatMs: number;
  readonly limits: Limits;
  /** Whom limits count a request for; null: for nobody, it is a worker that this coordinator started itself. */
  readonly addressOf: (request: IncomingMessage) => string | null;
  /** Null when a page of this request's Origin may connect; else why not. */
  readonly originProblem: (request: IncomingMessage) => string | null;
};

export type Hello = Extract<WorkerMessage, { type: "hello" }>;

export type SocketHandlers = {
  /**
   * Who this is: the identity it proves to have, or a new one. `own` tells that this coordinator started it. @throws
   * ProtocolError when it may not join.
   */
  readonly identify: (hello: Hello, own: boolean) => Promise<{ worker: WorkerId; secret: string }>;
  readonly onJoined: (worker: WorkerId, hello: Hello, secret: string) => void;
  readonly onMessage: (worker: WorkerId, message: Exclude<WorkerMessage, Hello>, payload: Uint8Array) => void;
  readonly onGone: (worker: WorkerId, reason: string) => void;
  readonly onRefusal: (worker: WorkerId | null, code: RefusalCode, message: string) => void;
  readonly onBytes: (direction: "in" | "out", bytes: number) => void;
};

export type Sockets = {
  readonly send: (worker: WorkerId, message: CoordinatorMessage, payload?: Uint8Array) => void;
  /** Encodes once, sends the same bytes to all. The payload is one of `allocatePayload`: it becomes part of the frame uncopied. */
  readonly broadcast: (workers: Iterable<WorkerId>, message: CoordinatorMessage, payload?: Uint8Array<ArrayBuffer>) => void; // prettier-ignore
  readonly refuse: (
    worker: WorkerId,
    code: RefusalCode,
    message: string,
    options: { fatal: boolean; accept?: Acceptable | undefined },
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

/** What a worker may say between `hello` and `ready`. */
const beforeReady: ReadonlySet<WorkerMessage["type"]> = new Set(["examination", "heartbeat", "leave"]);

/** A peer that was told to go and does not say goodbye is cut off after this. */
const CLOSE_TIMEOUT_MS = 2000;

/** Frames on top of a result: masks, lengths, pongs. */
const FRAMING_BYTES = 256;

/** A result of an evaluation has no payload. */
const EVALUATION_BYTES = 1024;

type Connection = {
  readonly socket: WebSocket;
  readonly tcp: Duplex;
  /** Null: this coordinator started it, and no limit holds. */
  readonly address: string | null;
  worker: WorkerId | null;
  /** A hello arrived, and is being looked at. */
  greeted: boolean;
  ready: boolean;
  lastHeardMs: number;
  allowance: Allowance;
};

export function openSockets(
  server: Server,
  config: SocketsConfig,
  handlers: SocketHandlers,
  nowMs: () => number,
): Sockets {
  const maxPayload = config.maxPayloadBytes + FRAME_OVERHEAD_BYTES;
  // (A name of its own: ws's types do not know closeTimeout yet.)
  const options = { noServer: true, maxPayload, perMessageDeflate: false, clientTracking: false, closeTimeout: CLOSE_TIMEOUT_MS }; // prettier-ignore
  const webSockets = new WebSocketServer(options);
  const { limits } = config;
  const rates = allowanceRates(limits);
  const perAddress = createAddressCounts(limits.workersPerAddress);
  const connects = createAddressRates(connectRate(limits));
  const strayMessages = createAddressRates(strayMessageRate(limits));
  const connections = new Set<Connection>();
  const byWorker = new Map<WorkerId, Connection>();

  const onUpgrade = (request: IncomingMessage, tcp: Duplex, head: Buffer): void => {
    // A peer that is gone before it is answered is no error of ours.
    tcp.on("error", () => tcp.destroy());
    if (request.url?.split("?", 1)[0] !== SOCKET_PATH) {
      refuseUpgrade(tcp, "404 Not Found");
      return;
    }
    const problem = config.originProblem(request);
    if (problem !== null) {
      handlers.onRefusal(null, "bad-origin", problem);
      refuseUpgrade(tcp, "403 Forbidden", problem);
      return;
    }
    const address = config.addressOf(request);
    if (address !== null && !connects.take(address, 1, nowMs())) {
      const message = `more than ${limits.connectsPerSecond} connections per second from ${address}`;
      handlers.onRefusal(null, "rate-limit", message);
      refuseUpgrade(tcp, "429 Too Many Requests", message);
      return;
    }
    webSockets.handleUpgrade(request, tcp, head, (socket) => accept(socket, tcp, address));
  };
  server.on("upgrade", onUpgrade);
  const watchdog = setInterval(watch, Math.min(1000, config.heartbeatMs));

  function accept(socket: WebSocket, tcp: Duplex, address: string | null): void {
    const allowance = initialAllowance(rates, nowMs());
    const connection: Connection = { socket, tcp, address, worker: null, greeted: false, ready: false, lastHeardMs: nowMs(), allowance }; // prettier-ignore
    connections.add(connection);
    const counted = address !== null && perAddress.enter(address);
    // Before ws, which may have a whole message together with these bytes.
    tcp.prependListener("data", (data: Buffer) => receiveBytes(connection, data.length));
    socket.on("message", (data: Buffer, isBinary) => receive(connection, data, isBinary));
    socket.on("close", (code) => {
      if (counted) perAddress.leave(address);
      drop(connection, `connection closed (${code})`);
    });
    // ws reports here what a peer did wrong below our protocol (a frame over maxPayload, bad masking) and then closes.
    socket.on("error", (error: Error & { code?: string }) => {
      const code = error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH" ? "too-large" : "bad-frame";
      handlers.onRefusal(connection.worker, code, error.message);
    });
    if (address === null) return;
    if (connections.size > limits.workers) {
      const message = `this coordinator takes ${limits.workers} workers`;
      onProblem(connection, new ProtocolError("too-many-workers", message));
    } else if (!counted) {
      const message = `${address} has ${limits.workersPerAddress} connections, the most that one address may have`;
      onProblem(connection, new ProtocolError("address-limit", message));
    }
  }

  /** Before ws has put a message together from them: what nobody asked for must not even be kept. */
  function receiveBytes(connection: Connection, bytes: number): void {
    if (connection.worker !== null) connection.lastHeardMs = nowMs();
    if (connection.address === null) return;
    const after = spendBytes(connection.allowance, bytes, rates, nowMs());
    if (after !== null) {
      connection.allowance = after;
      return;
    }
    if (!connections.has(connection)) {
      connection.socket.terminate();
      return;
    }
    onProblem(connection, new ProtocolError("rate-limit", "more bytes than the leases of this connection ask for"));
    // Not even for its goodbye: what it sends is not read any more.
    connection.socket.pause();
  }

  function receive(connection: Connection, data: Buffer, isBinary: boolean): void {
    if (!connections.has(connection)) return;
    if (connection.worker !== null) connection.lastHeardMs = nowMs();
    handlers.onBytes("in", data.length);
    try {
      if (!isBinary) throw new ProtocolError("bad-frame", "a text frame, where frames are binary");
      const frame = decodeFrame(data);
      const message = validateWorkerMessage(frame.header, frame.payload.length);
      spend(connection, message);
      if (message.type === "hello") {
        void greet(connection, message);
        return;
      }
      if (connection.worker === null) throw new ProtocolError("out-of-order", `${message.type} before hello`);
      if (message.type === "ready") connection.ready = true;
      else if (!connection.ready && !beforeReady.has(message.type)) {
        throw new ProtocolError("out-of-order", `${message.type} before ready`);
      }
      handlers.onMessage(connection.worker, message, frame.payload);
      if (message.type !== "leave") return;
      connection.socket.close(1000, "goodbye");
      drop(connection, message.reason);
    } catch (error) {
      onProblem(connection, error);
    }
  }

  /** @throws ProtocolError `rate-limit` */
  function spend(connection: Connection, message: WorkerMessage): void {
    if (connection.address === null) return;
    const spent = spendMessage(connection.allowance, spendingOf(message), rates, nowMs());
    if (spent === null) {
      throw new ProtocolError("rate-limit", `more than ${limits.messagesPerSecond} messages per second that no lease asked for`); // prettier-ignore
    }
    connection.allowance = spent.allowance;
    if (spent.asked || strayMessages.take(connection.address, 1, nowMs())) return;
    throw new ProtocolError("rate-limit", `the connections of ${connection.address} send too many messages`);
  }

  async function greet(connection: Connection, message: Hello): Promise<void> {
    try {
      if (connection.greeted) throw new ProtocolError("out-of-order", "a second hello");
      connection.greeted = true;
      if (message.protocolVersion !== PROTOCOL_VERSION) {
        const theirs = message.protocolVersion;
        throw new ProtocolError("protocol-version", `worker speaks protocol ${theirs}, this run ${PROTOCOL_VERSION}`);
      }
      const { worker, secret } = await handlers.identify(message, connection.address === null);
      // It may be gone by now.
      if (connections.has(connection)) join(connection, message, worker, secret);
    } catch (error) {
      onProblem(connection, error);
    }
  }

  function join(connection: Connection, message: Hello, worker: WorkerId, secret: string): void {
    // The same worker, back before its old connection was noticed to be dead: the old one is the ghost.
    const ghost = byWorker.get(worker);
    if (ghost !== undefined) {
      byWorker.delete(worker);
      ghost.worker = null;
      ghost.socket.terminate();
    }
    connection.worker = worker;
    connection.lastHeardMs = nowMs();
    byWorker.set(worker, connection);
    handlers.onJoined(worker, message, secret);
  }

  function onProblem(connection: Connection, error: unknown): void {
    if (!(error instanceof ProtocolError)) throw error;
    handlers.onRefusal(connection.worker, error.code, error.message);
    refuseConnection(connection, error.code, error.message, error.fatal);
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
    accept?: Acceptable,
  ): void {
    write(
      connection,
      encodeFrame({ type: "refused", code, message: message.slice(0, 1000), fatal, ...(accept && { accept }) }),
    );
    if (!fatal) return;
    connection.socket.close(4000, code);
    drop(connection, `refused: ${code}`);
  }

  /** What is sent decides what may come back. */
  function allow(connection: Connection, message: CoordinatorMessage): void {
    if (connection.address === null) return;
    if (message.type === "update") connection.allowance = allowReleases(connection.allowance);
    if (message.type !== "lease") return;
    const unitBytes = message.kind === "train" ? maxPayload + FRAMING_BYTES : EVALUATION_BYTES;
    connection.allowance = allowLease(connection.allowance, message.lease, message.units, unitBytes);
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
      if (connection === undefined) return;
      allow(connection, message);
      write(connection, encodeFrame(message, payload));
    },
    broadcast(workers, message, payload) {
      const bytes = payload === undefined ? encodeFrame(message) : encodeFrameInPlace(message, payload);
      for (const worker of workers) {
        const connection = byWorker.get(worker);
        if (connection === undefined) continue;
        allow(connection, message);
        write(connection, bytes);
      }
    },
    refuse(worker, code, message, { fatal, accept }) {
      const connection = byWorker.get(worker);
      if (connection !== undefined) refuseConnection(connection, code, message, fatal, accept);
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

function spendingOf(message: WorkerMessage): Spending {
  switch (message.type) {
    case "contribution":
    case "evaluation":
      return { type: "result", lease: message.lease, units: message.units };
    case "release":
      return { type: "release", lease: message.lease };
    case "pull":
    case "ready":
      return { type: message.type };
    case "hello":
    case "examination":
    case "heartbeat":
    case "leave":
      return { type: "other" };
    default:
      return message satisfies never;
  }
}

function refuseUpgrade(tcp: Duplex, status: string, reason = ""): void {
  const body = reason === "" ? "" : `${reason}\n`;
  const retry = status.startsWith("429") ? "Retry-After: 1\r\n" : "";
  tcp.end(
    `HTTP/1.1 ${status}\r\n${retry}Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
