/**
 * @file What strangers do to a real coordinator: fuzzed sessions (made by fast-check from valid ones), connections that are held
 * open with next to nothing, floods of connects, readers that do not read. Each comes from many addresses of 127.0.0.0/8, so
 * that limits per address are part of what is tested and do not end the test.
 */
import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as fc from "fast-check";
import { Packr } from "msgpackr";
import { WebSocket } from "ws";
import { decodeFrame, encodeFrame } from "../../shared/wire/frame.ts";
import { PROTOCOL_VERSION } from "../../shared/wire/protocol.ts";

export type Attack = {
  readonly url: string;
  /** What the examination wants to hear, so that attackers get as far as leases. */
  readonly answer: { readonly lossSum: number; readonly tokens: number; readonly sketch: readonly number[] };
  /** Bytes of one honest contribution's payload. */
  readonly payloadBytes: number;
  readonly seed: number;
  readonly signal: AbortSignal;
};

type Header = Record<string, unknown>;

/** What an attacker has been told. */
type Told = { welcome: Header | null; lease: Header | null; last: Uint8Array | null };

type Step = {
  readonly say: (typeof messages)[number];
  readonly how: Mutation;
};

const messages = ["hello", "resume", "examination", "ready", "pull", "contribution", "evaluation", "release", "heartbeat", "leave"] as const; // prettier-ignore

type Mutation =
  | { readonly type: "none" | "text" | "ping" | "fragment" | "replay" }
  | { readonly type: "field"; readonly index: number; readonly value: unknown }
  | { readonly type: "drop"; readonly index: number }
  | { readonly type: "add"; readonly name: string; readonly value: unknown }
  | { readonly type: "flip"; readonly bits: readonly number[] }
  | { readonly type: "cut" | "grow"; readonly bytes: number }
  | { readonly type: "headerLength"; readonly value: number }
  | { readonly type: "header"; readonly bytes: Uint8Array }
  | { readonly type: "payload"; readonly bytes: number; readonly fill: number };

const weird: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(-1, 0, 1, 2 ** 31, 2 ** 32, 2 ** 48, 2 ** 53, 1e308, -0, 0.5, NaN, Infinity, -Infinity, null, true, "", "__proto__", [], {}), // prettier-ignore
  fc.string({ maxLength: 400 }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.uint8Array({ maxLength: 50 }),
  fc.array(fc.integer(), { maxLength: 20 }),
  fc.object({ maxDepth: 3 }),
);

/** msgpack that claims more than it has, nests, or names types of its own. */
const claims: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.integer({ min: 1, max: 16_000 }).map((depth) => new Uint8Array(depth).fill(0x91)),
  fc.integer({ min: 1, max: 16_000 }).map((depth) => new Uint8Array(depth).fill(0x81)),
  fc.constantFrom([0xdd, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255], [0xdb, 255, 255, 255, 255], [0xc6, 255, 255, 255, 255], [0xc9, 255, 255, 255, 255, 1], [0xd4, 0x72, 0x40], [0xd6, 0xff, 1, 2, 3, 4], [0xc1]).map((bytes) => Uint8Array.from(bytes)), // prettier-ignore
);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("none", "text", "ping", "fragment", "replay").map((type) => ({ type }) as const) }, // prettier-ignore
  { weight: 6, arbitrary: fc.record({ type: fc.constant("field" as const), index: fc.nat(12), value: weird }) },
  fc.record({ type: fc.constant("drop" as const), index: fc.nat(12) }),
  fc.record({ type: fc.constant("add" as const), name: fc.constantFrom("__proto__", "constructor", "admin", "type "), value: weird }), // prettier-ignore
  { weight: 3, arbitrary: fc.record({ type: fc.constant("flip" as const), bits: fc.array(fc.nat(4000), { minLength: 1, maxLength: 8 }) }) }, // prettier-ignore
  fc.record({ type: fc.constantFrom("cut" as const, "grow" as const), bytes: fc.nat(300) }),
  fc.record({ type: fc.constant("headerLength" as const), value: fc.oneof(fc.nat(40), fc.constantFrom(0, 16_384, 16_385, 2 ** 31, 2 ** 32 - 1)) }), // prettier-ignore
  { weight: 2, arbitrary: fc.record({ type: fc.constant("header" as const), bytes: claims }) },
  fc.record({ type: fc.constant("payload" as const), bytes: fc.oneof(fc.nat(200), fc.constant(-1)), fill: fc.nat(255) }), // prettier-ignore
);

const step: fc.Arbitrary<Step> = fc.record({ say: fc.constantFrom(...messages), how: mutation });

/** Attackers at a time. */
const SESSIONS = 32;

const BATCH = 200;

/** A mask of zeros, which is valid, and costs the attacker nothing. (A name of its own: ws's types do not know it yet.) */
const unmasked = { generateMask: (mask: Buffer): void => void mask.fill(0) };

const packr = new Packr({ useRecords: false });

export type FuzzReport = { readonly frames: number; readonly connections: number };

/**
 * Sends `frames` frames, each on a connection that is open, at about `perSecond`; from connections that got more or less deep into a
 * session. The valid frames on the way there do not count, each repetition of a frame does.
 */
export async function fuzz(
  attack: Attack & { readonly frames: number; readonly perSecond: number },
): Promise<FuzzReport> {
  const { seed, signal, frames, perSecond } = attack;
  const report = { frames: 0, connections: 0 };
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: SESSIONS }, async (_, session) => {
      const peer = createPeer(attack, `127.9.${session}.`, () => (report.connections += 1));
      let steps: readonly Step[] = [];
      for (let index = 0; report.frames < frames && index < frames && !signal.aborted; index++) {
        // In batches: a hundred thousand at once would be hundreds of megabytes, one by one most of the time.
        if (index % BATCH === 0) steps = fc.sample(step, { seed: seed + 100 * index + session, numRuns: BATCH });
        const next = steps[index % BATCH];
        await peer.open(index % 5);
        if (next !== undefined) report.frames += peer.say(next);
        await peer.heard();
        const aheadMs = (report.frames / perSecond) * 1000 - (performance.now() - startMs);
        if (aheadMs > 1) await sleep(aheadMs);
      }
      peer.close();
    }),
  );
  return report;
}

type Peer = {
  /** Connects when it is not connected, and gets `depth` messages deep into a valid session. */
  readonly open: (depth: number) => Promise<void>;
  /** Returns how many frames it took; none where the connection is gone already. */
  readonly say: (step: Step) => number;
  /** Resolves when something was answered, or soon. */
  readonly heard: () => Promise<void>;
  readonly pause: () => void;
  readonly isOpen: () => boolean;
  readonly close: () => void;
};

function createPeer(attack: Attack, network: string, onConnect: () => void): Peer {
  const { url, payloadBytes } = attack;
  let socket: WebSocket | null = null;
  let told: Told = { welcome: null, lease: null, last: null };
  let host = 0;
  let wake: (() => void) | null = null;

  const heard = async (): Promise<void> => {
    const woken = new Promise<void>((resolve) => (wake = resolve));
    await Promise.race([woken, sleep(5)]);
  };
  const isOpen = (): boolean => socket?.readyState === WebSocket.OPEN;
  const send = (bytes: Uint8Array): number => {
    told.last = bytes;
    return write((open) => open.send(bytes));
  };
  const write = (how: (open: WebSocket) => void): number => {
    if (socket === null || !isOpen()) return 0;
    how(socket);
    return 1;
  };

  return {
    heard,
    isOpen,
    pause: () => socket?.pause(),
    close: () => socket?.terminate(),
    async open(depth) {
      if (isOpen()) return;
      socket?.terminate();
      told = { ...told, welcome: null, lease: null };
      host = (host + 1) % 250;
      onConnect();
      const opened = new WebSocket(`${url.replace("http", "ws")}/socket`, { ...unmasked, perMessageDeflate: false, localAddress: `${network}${host + 1}` }); // prettier-ignore
      socket = opened;
      opened.on("error", () => wake?.());
      opened.on("close", () => wake?.());
      opened.on("message", (data: Buffer) => {
        const { header } = decodeFrame(data);
        const message = header as Header;
        if (message["type"] === "welcome") told.welcome = message;
        if (message["type"] === "lease") told.lease = message;
        wake?.();
      });
      await once(opened, "open").catch(() => {});
      for (const name of (["hello", "examination", "ready", "pull"] as const).slice(0, depth)) {
        send(frameOf(name, told, attack));
        // For the welcome, without which nothing further is in order; for a lease only a moment: there may be none.
        const isMissing = (): boolean => (name === "hello" ? told.welcome : name === "pull" ? told.lease : "") === null;
        for (let wait = name === "hello" ? 100 : 3; wait > 0 && isOpen() && isMissing(); wait--) await heard();
      }
    },
    say({ say, how }) {
      const plain = messageOf(say, told, attack);
      const names = Object.keys(plain);
      switch (how.type) {
        case "none":
          return send(frameOf(say, told, attack));
        case "text":
          return write((open) => open.send(JSON.stringify(plain)));
        case "ping":
          return write((open) => open.ping(Buffer.alloc(125)));
        case "fragment":
          // A beginning whose end never comes, or comes as the beginning of another.
          return write((open) => open.send(frameOf(say, told, attack), { fin: false }));
        case "replay":
          return told.last === null ? 0 : Array.from({ length: 20 }, () => send(told.last!)).reduce((a, b) => a + b);
        case "field":
          return send(
            pack({ ...plain, [names[how.index % names.length] ?? "type"]: how.value }, payloadOf(say, told, attack)),
          );
        case "drop":
          return send(pack(Object.fromEntries(Object.entries(plain).filter((_, index) => index !== how.index % names.length)), payloadOf(say, told, attack))); // prettier-ignore
        case "add":
          return send(pack(Object.fromEntries([...Object.entries(plain), [how.name, how.value]]), payloadOf(say, told, attack))); // prettier-ignore
        case "flip": {
          const bytes = frameOf(say, told, attack).slice();
          for (const bit of how.bits) {
            const at = (bit >> 3) % bytes.length;
            bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
          }
          return send(bytes);
        }
        case "cut":
          return send(frameOf(say, told, attack).slice(0, how.bytes));
        case "grow": {
          const bytes = frameOf(say, told, attack);
          return send(Buffer.concat([bytes, new Uint8Array(how.bytes)]));
        }
        case "headerLength": {
          const bytes = frameOf(say, told, attack).slice();
          new DataView(bytes.buffer).setUint32(0, how.value, true);
          return send(bytes);
        }
        case "header": {
          const bytes = new Uint8Array(4 + how.bytes.length);
          new DataView(bytes.buffer).setUint32(0, how.bytes.length, true);
          bytes.set(how.bytes, 4);
          return send(bytes);
        }
        case "payload":
          return send(pack(plain, new Uint8Array(how.bytes < 0 ? payloadBytes : how.bytes).fill(how.fill)));
        default:
          return how satisfies never;
      }
    },
  };
}

/** msgpackr's own encoder: the coordinator's would refuse what is no message. */
function pack(header: object, payload: Uint8Array): Uint8Array {
  const packed = packr.pack(header);
  const start = Math.ceil((4 + packed.length) / 8) * 8;
  const bytes = new Uint8Array(payload.length === 0 ? 4 + packed.length : start + payload.length);
  new DataView(bytes.buffer).setUint32(0, packed.length, true);
  bytes.set(packed, 4);
  bytes.set(payload, payload.length === 0 ? bytes.length : start);
  return bytes;
}

/**
 * Of a contribution as much as a lease asks for; without one, what is beyond any allowance: the rest would never be read, and
 * cost the attacker's machine more than the coordinator.
 */
function payloadOf(say: Step["say"], { lease }: Told, { payloadBytes }: Attack): Uint8Array {
  if (say !== "contribution") return notFinite.subarray(0, 0);
  if (notFinite.length < payloadBytes) notFinite = new Uint8Array(payloadBytes).fill(255);
  return notFinite.subarray(0, lease === null ? Math.min(payloadBytes, UNASKED_BYTES) : payloadBytes);
}

/** As f32: what is well-formed must not become a part of the run that honest workers train. */
let notFinite = new Uint8Array();

const UNASKED_BYTES = 2 ** 17;

function frameOf(say: Step["say"], told: Told, attack: Attack): Uint8Array {
  const payload = say === "examination" ? new Uint8Array(Float64Array.from(attack.answer.sketch).buffer) : payloadOf(say, told, attack); // prettier-ignore
  return encodeFrame(messageOf(say, told, attack), payload.length === 0 ? undefined : payload);
}

function messageOf(say: Step["say"], { welcome, lease }: Told, { answer }: Attack): Header {
  const hello = { type: "hello", protocolVersion: PROTOCOL_VERSION, kind: "node", name: "hostile" }; // prettier-ignore
  const snapshot = (welcome?.["snapshot"] ?? { version: 0, hash: "0123456789abcdef" }) as {
    version: number;
    hash: string;
  };
  const result = {
    lease: Number(lease?.["lease"] ?? 1),
    base: Number(lease?.["base"] ?? snapshot.version),
    hash: snapshot.hash,
    firstUnit: Number(lease?.["firstUnit"] ?? 0),
    units: 1,
    tokens: 1,
    lossSum: 1,
    computeMs: 1,
  };
  switch (say) {
    case "hello":
      return hello;
    case "resume":
      return { ...hello, resume: { worker: welcome?.["worker"] ?? "w", secret: welcome?.["secret"] ?? "s" } }; // prettier-ignore
    case "examination":
      return { type: "examination", backend: "cpu", lossSum: answer.lossSum, tokens: answer.tokens };
    case "ready":
      return {
        type: "ready",
        backend: "cpu",
        fallbacks: [],
        version: snapshot.version,
        hash: snapshot.hash,
        unitMs: 1,
      };
    case "contribution":
    case "evaluation":
      return { type: say, ...result };
    case "release":
    case "leave":
      return { type: say, ...(say === "release" ? { lease: result.lease } : {}), reason: "hostile" };
    case "pull":
    case "heartbeat":
      return { type: say };
    default:
      return say satisfies never;
  }
}

/**
 * Keeps `count` connections open with as little as each kind needs: a request's head that dribbles in, a socket that says
 * nothing, a WebSocket without a hello, one with the beginning of a large frame. What is cut off comes back. Resolves, when
 * aborted, to how many were opened in all.
 */
export async function slowLoris({
  url,
  signal,
  count,
}: Pick<Attack, "url" | "signal"> & { count: number }): Promise<number> {
  // prettier-ignore
  const { port } = new URL(url);
  const open = new Set<Socket>();
  let opened = 0;
  const start = (index: number): void => {
    if (signal.aborted) return;
    const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress: `127.8.0.${(index % 8) + 1}` });
    opened += 1;
    open.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => {
      open.delete(socket);
      setTimeout(() => start(index), 200);
    });
    const kind = index % 4;
    const upgrade = `GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${btoa("0123456789abcdef")}\r\n\r\n`; // prettier-ignore
    if (kind === 0) socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    if (kind === 2) socket.write(upgrade);
    // After the upgrade: a binary frame of 60,000 bytes, of which the header comes.
    if (kind === 3)
      socket.write(Buffer.concat([Buffer.from(upgrade), Buffer.from([0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0])]));
    socket.resume();
  };
  for (let index = 0; index < count; index++) {
    start(index);
    if (index % 50 === 49) await sleep(20);
  }
  while (!signal.aborted) {
    let index = 0;
    for (const socket of open) if (index++ % 4 === 0 && socket.writable) socket.write("x");
    await sleep(500);
  }
  for (const socket of open) socket.destroy();
  return opened;
}

/** Opens WebSockets and lets them go, `perSecond`, from three addresses: far more than an address may. */
export async function connectFlood({
  url,
  signal,
  perSecond,
}: Pick<Attack, "url" | "signal"> & { perSecond: number }): Promise<number> {
  // prettier-ignore
  let connects = 0;
  const startMs = performance.now();
  while (!signal.aborted) {
    const socket = new WebSocket(`${url.replace("http", "ws")}/socket`, {
      localAddress: `127.7.0.${(connects % 3) + 1}`,
    });
    socket.on("error", () => {});
    socket.on("open", () => socket.terminate());
    connects += 1;
    const aheadMs = (connects / perSecond) * 1000 - (performance.now() - startMs);
    if (aheadMs > 1) await sleep(aheadMs);
  }
  return connects;
}

/** `count` workers that get as far as updates and then read nothing more; as many downloads of a snapshot likewise. */
export async function slowReaders(attack: Attack & { readonly count: number }): Promise<number> {
  const { url, signal, count } = attack;
  let connections = 0;
  const sockets = new Set<Socket>();
  const download = (index: number, path: string): void => {
    const socket = connect({
      port: Number(new URL(url).port),
      host: "127.0.0.1",
      localAddress: `127.6.1.${index + 1}`,
    });
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    socket.pause();
  };
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const peer = createPeer(attack, `127.6.0.`, () => (connections += 1));
      while (!signal.aborted) {
        if (!peer.isOpen()) {
          await peer.open(3);
          peer.pause();
          if (sockets.size < count) download(index, "/dashboard");
        }
        await sleep(250, undefined, { signal }).catch(() => {});
      }
      peer.close();
    }),
  );
  for (const socket of sockets) socket.destroy();
  return connections;
}
