import { once } from "node:events";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { createGate } from "../../../coordinator/edge/gate.ts";
import { defaultLimits } from "../../../coordinator/edge/limits.ts";
import { openSockets } from "../../../coordinator/edge/sockets.ts";
import type { Sockets } from "../../../coordinator/edge/sockets.ts";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import { PROTOCOL_VERSION } from "../../../shared/wire/protocol.ts";

const MAX_PAYLOAD = 100_000;

const limits = { ...defaultLimits, workers: 4, workersPerAddress: 3, connectsPerSecond: 6 };

const gate = createGate({ token: "right", invites: null });

let server: Server;
let sockets: Sockets;
let log: string[];
let nowMs: number;
let nextWorker: number;

beforeEach(async () => {
  server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  log = [];
  nowMs = 0;
  nextWorker = 1;
  sockets = openSockets(
    server,
    {
      maxPayloadBytes: MAX_PAYLOAD,
      heartbeatMs: 50,
      limits,
      addressOf: ({ headers }) =>
        headers["x-test-own"] === undefined ? String(headers["x-test-address"] ?? "a") : null,
      originProblem: ({ headers }) => (headers.origin === "http://elsewhere" ? "not from elsewhere" : null),
    },
    {
      async identify({ token }, own) {
        const admission = await gate(token, own);
        const worker = `w${nextWorker++}`;
        admission(worker);
        return { worker, secret: "s" };
      },
      onJoined: (worker) => {
        log.push(`${worker} joined`);
        sockets.send(worker, { type: "waiting", reason: "welcome" });
      },
      onMessage: (worker, message) => {
        log.push(`${worker} ${message.type}`);
        sockets.send(worker, { type: "waiting", reason: message.type });
      },
      onGone: (worker) => void log.push(`${worker} gone`),
      onRefusal: (worker, code) => void log.push(`${worker ?? "stranger"} ${code}`),
      onBytes: () => {},
    },
    () => nowMs,
  );
});

afterEach(async () => {
  await sockets.close("the test is over");
  server.close();
});

const HELLO = { type: "hello", protocolVersion: PROTOCOL_VERSION, kind: "node", name: "test", token: "right" };
const READY = { type: "ready", backend: "cpu", fallbacks: [], version: 0, hash: "0123456789abcdef", unitMs: 1 };

/** A peer that may say anything; `next` resolves to what it hears, `closed` to the close code. */
async function peer(headers: Record<string, string> = {}): Promise<{
  socket: WebSocket;
  say: (bytes: Uint8Array | object) => void;
  next: () => Promise<Record<string, unknown>>;
  closed: Promise<number>;
}> {
  const socket = new WebSocket(address(), { headers });
  const heard: Record<string, unknown>[] = [];
  const waiting: ((message: Record<string, unknown>) => void)[] = [];
  socket.on("message", (data: Buffer) => {
    const message = decodeFrame(data).header as Record<string, unknown>;
    const waiter = waiting.shift();
    if (waiter === undefined) heard.push(message);
    else waiter(message);
  });
  socket.on("error", () => {});
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  await once(socket, "open");
  return {
    socket,
    say: (message) => socket.send(message instanceof Uint8Array ? message : encodeFrame(message)),
    next: () => {
      const message = heard.shift();
      return message === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(message);
    },
    closed,
  };
}

const address = (): string => `ws://127.0.0.1:${(server.address() as AddressInfo).port}/socket`;

async function connectAndGo(): Promise<void> {
  const { socket, closed } = await peer();
  socket.close();
  await closed;
}

async function worker(headers: Record<string, string> = {}): ReturnType<typeof peer> {
  const honest = await peer(headers);
  honest.say(HELLO);
  await honest.next();
  honest.say(READY);
  await honest.next();
  return honest;
}

/** An honest worker is answered whatever the other peer did. */
async function expectUndisturbed(honest: Awaited<ReturnType<typeof peer>>): Promise<void> {
  honest.say({ type: "pull" });
  expect(await honest.next()).toEqual({ type: "waiting", reason: "pull" });
}

test.each<[string, string, Uint8Array | object]>([
  ["[P2] a malformed frame", "bad-frame", new Uint8Array([255, 255, 255, 255, 1, 2])],
  ["[P3] a message that is none", "bad-message", encodeFrame({ type: "obey" })],
  ["[P4] another protocol version", "protocol-version", encodeFrame({ ...HELLO, protocolVersion: 99 })],
  ["[P5] a wrong token", "bad-token", encodeFrame({ ...HELLO, token: "wrong" })],
  ["[P6] a pull before hello", "out-of-order", encodeFrame({ type: "pull" })],
])("%s is refused with its code and the connection closed, the others undisturbed", async (_, code, bytes) => {
  const honest = await worker();
  const stranger = await peer();
  stranger.say(bytes);
  expect(await stranger.next()).toMatchObject({ type: "refused", code, fatal: true });
  expect(await stranger.closed).toBe(4000);
  expect(log).toContain(`stranger ${code}`);
  await expectUndisturbed(honest);
});

test("[P6] a pull before ready and a second hello are out of order", async () => {
  for (const message of [{ type: "pull" }, HELLO]) {
    const hasty = await peer();
    hasty.say(HELLO);
    await hasty.next();
    hasty.say(message);
    expect(await hasty.next()).toMatchObject({ type: "refused", code: "out-of-order", fatal: true });
    await hasty.closed;
  }
});

test("[P7] a frame larger than a contribution can be is cut off, the others undisturbed", async () => {
  const honest = await worker();
  const stranger = await peer();
  stranger.say(new Uint8Array(200_000));
  expect(await stranger.closed).toBe(1009);
  expect(log).toContain("stranger too-large");
  await expectUndisturbed(honest);
});

test("[P7] what is larger than a hello is cut off while the peer is a stranger", async () => {
  const honest = await worker();
  const stranger = await peer();
  stranger.say(new Uint8Array(90_000));
  await stranger.closed;
  expect(log).toContain("stranger rate-limit");
  await expectUndisturbed(honest);
});

test("[P8] one worker more than the limit is told so", async () => {
  const four = [await worker(), await worker(), await worker({ "x-test-address": "b" }), await worker({ "x-test-address": "b" })]; // prettier-ignore
  const fifth = await peer({ "x-test-address": "b" });
  expect(await fifth.next()).toMatchObject({ type: "refused", code: "too-many-workers", fatal: true });
  await expectUndisturbed(four[0]!);
});

test("[P15] one connection more than an address may have is told so; a place that is free again is given again", async () => {
  const three = [await worker(), await worker(), await worker()];
  const fourth = await peer();
  expect(await fourth.next()).toMatchObject({ type: "refused", code: "address-limit", fatal: true });
  await fourth.closed;
  await expectUndisturbed(await worker({ "x-test-address": "b" }));
  three[0]!.socket.close();
  await three[0]!.closed;
  await expectUndisturbed(await worker());
});

test("[P15] an address that connects faster than it may is answered with 429, and may again a second later", async () => {
  const failures: string[] = [];
  for (let attempt = 0; attempt < 8; attempt++) {
    const failure = await connectAndGo().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (failure !== undefined) failures.push(failure);
  }
  expect(failures).toEqual(["Unexpected server response: 429", "Unexpected server response: 429"]);
  expect(log.filter((line) => line === "stranger rate-limit")).toHaveLength(2);
  nowMs += 1000;
  await expectUndisturbed(await worker());
});

test("[P15] messages that no lease asked for are bounded; as many results as were leased are not", async () => {
  const honest = await worker();
  sockets.send("w1", { type: "lease", lease: 1, kind: "evaluate", base: 0, origin: 0, samples: 900, firstUnit: 0, units: 900, deadlineMs: 1 }); // prettier-ignore
  expect(await honest.next()).toMatchObject({ type: "lease" });
  const result = { type: "evaluation", lease: 1, base: 0, hash: READY.hash, tokens: 1, lossSum: 1, computeMs: 1 };
  for (let firstUnit = 0; firstUnit < 900; firstUnit++) honest.say({ ...result, firstUnit, units: 1 });
  for (let firstUnit = 0; firstUnit < 900; firstUnit++) await honest.next();
  await expectUndisturbed(honest);
  // The same once more: nobody lent that.
  for (let firstUnit = 0; firstUnit < 200; firstUnit++) honest.say({ ...result, firstUnit, units: 1 });
  expect(await honest.closed).toBe(4000);
  expect(log).toContain("w1 rate-limit");
  expect(log).toContain("w1 gone");
});

test("[P15] a contribution's bytes are read when a lease asks for them, and not otherwise", async () => {
  const honest = await worker();
  const contribution = { type: "contribution", base: 0, hash: READY.hash, firstUnit: 0, units: 1, tokens: 1, lossSum: 1, computeMs: 1 }; // prettier-ignore
  const frame = (lease: number): Uint8Array => encodeFrame({ ...contribution, lease }, new Uint8Array(MAX_PAYLOAD));
  for (let lease = 1; lease <= 20; lease++) {
    sockets.send("w1", { type: "lease", lease, kind: "train", base: 0, origin: 0, samples: 1, firstUnit: 0, units: 1, deadlineMs: 1 }); // prettier-ignore
    expect(await honest.next()).toMatchObject({ type: "lease" });
    honest.say(frame(lease));
    expect(await honest.next()).toMatchObject({ reason: "contribution" });
  }
  honest.say(frame(21));
  await honest.closed;
  expect(log.at(-2)).toBe("w1 rate-limit");
  expect(log.at(-1)).toBe("w1 gone");
});

test("[P15] a worker that this coordinator started is not limited", async () => {
  const own = { "x-test-own": "yes" };
  for (let index = 0; index < 12; index++) await worker(own);
  const last = await peer(own);
  last.say({ ...HELLO, token: "none" });
  await last.next();
  last.say(READY);
  await last.next();
  for (let index = 0; index < 500; index++) last.say({ type: "heartbeat" });
  for (let index = 0; index < 500; index++) expect(await last.next()).toMatchObject({ reason: "heartbeat" });
});

test("[P16] a page of another origin cannot open a socket", async () => {
  await expect(peer({ origin: "http://elsewhere" })).rejects.toThrow("403");
  expect(log).toEqual(["stranger bad-origin"]);
  await expectUndisturbed(await worker({ origin: "http://here" }));
});

test("a peer that was refused and does not say goodbye is cut off", async () => {
  const stranger = await peer();
  // Its goodbye is never sent: nothing is read.
  stranger.socket.pause();
  stranger.say({ type: "pull" });
  await vi.waitFor(async () => expect(await connectionCount()).toBe(0), { timeout: 10_000 });
  stranger.socket.terminate();
});

const connectionCount = (): Promise<number> =>
  new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });

test("[P9] silence for three heartbeats ends a connection; a heartbeat keeps it", async () => {
  const alive = await worker();
  const silent = await worker();
  nowMs = 100;
  alive.say({ type: "heartbeat" });
  await alive.next();
  nowMs = 200;
  await silent.closed;
  expect(log).toContain("w2 heartbeat-timeout");
  expect(log).toContain("w2 gone");
  await expectUndisturbed(alive);
});

test("[P9] a peer that never says hello is cut off after the handshake deadline", async () => {
  const mute = await peer();
  nowMs = 20_000;
  expect(await mute.next()).toMatchObject({ code: "handshake-timeout" });
  await mute.closed;
});

test("a leave is heard, and the goodbye closes the connection once", async () => {
  const honest = await worker();
  honest.say({ type: "leave", reason: "enough" });
  expect(await honest.closed).toBe(1000);
  expect(log.filter((line) => line === "w1 gone")).toHaveLength(1);
});
