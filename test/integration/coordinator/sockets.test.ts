import { once } from "node:events";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { openSockets } from "../../../coordinator/sockets.ts";
import type { Sockets } from "../../../coordinator/sockets.ts";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";

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
    { maxPayloadBytes: 1024, heartbeatMs: 50, token: "right", maxWorkers: 3 },
    {
      identify: () => ({ worker: `w${nextWorker++}`, secret: "s" }),
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

const HELLO = { type: "hello", protocolVersion: 1, kind: "node", name: "test", token: "right" };
const READY = { type: "ready", backend: "cpu", fallbacks: [], version: 0, hash: "0123456789abcdef", unitMs: 1 };

/** A peer that may say anything; `next` resolves to what it hears, `closed` to the close code. */
async function peer(): Promise<{
  socket: WebSocket;
  say: (bytes: Uint8Array | object) => void;
  next: () => Promise<Record<string, unknown>>;
  closed: Promise<number>;
}> {
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/socket`);
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

async function worker(): ReturnType<typeof peer> {
  const honest = await peer();
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
  stranger.say(new Uint8Array(100_000));
  expect(await stranger.closed).toBe(1009);
  expect(log).toContain("stranger too-large");
  await expectUndisturbed(honest);
});

test("[P8] one worker more than the limit is told so", async () => {
  const three = [await worker(), await worker(), await worker()];
  const fourth = await peer();
  expect(await fourth.next()).toMatchObject({ type: "refused", code: "too-many-workers" });
  await expectUndisturbed(three[0]!);
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
