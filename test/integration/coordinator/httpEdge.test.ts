/** @file The HTTP side against a raw socket: bytes that no client library would send. */
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { answerFailure, createHttp } from "../../../coordinator/edge/http.ts";
import { createGuardedServer, guardHttp } from "../../../coordinator/edge/httpGuard.ts";
import { defaultLimits } from "../../../coordinator/edge/limits.ts";
import type { Limits } from "../../../coordinator/edge/limits.ts";
import { parseNetwork } from "../../../coordinator/edge/peerAddress.ts";
import { createPublisher } from "../../../coordinator/optimizer/publish.ts";
import type { Status } from "../../../shared/wire/status.ts";

const SECRET = "what lies beside the folder";

const CONTENT = "0123456789".repeat(10);

let dir: string;
let server: Server;
let port: number;
let nowMs: number;
let notices: string[];
let failures: string[];
let sockets: Socket[];

async function start(limits: Limits = defaultLimits, proxies: readonly string[] = []): Promise<void> {
  server = createGuardedServer(limits);
  const guard = guardHttp(server, {
    limits,
    proxies: proxies.map((text) => parseNetwork(text)!),
    origins: { allowed: [], loopbackOnly: true },
    ownKey: "own-key",
    onNotice: (text) => notices.push(text),
    nowMs: () => nowMs,
  });
  const app = createHttp({
    corpusDir: join(dir, "corpus"),
    corpusId: "c0",
    pagesDir: join(dir, "pages"),
    publisher: createPublisher({ maxUpdateBytes: 1000 }),
    registry: new Registry(),
    status: () => ({ run: "edge" }) as unknown as Status,
    board: () => ({ tokens: 0, contributors: 0, top: [] }),
    snapshotDir: join(dir, "snapshots"),
    dashboard: new Hono(),
    stepGraphs: { routes: new Hono(), prepare: () => {} },
    admin: new Hono().post("/admin/echo", async (context) => context.text(await context.req.text())),
    onError: answerFailure((text) => failures.push(text)),
  });
  const answer = getRequestListener(app.fetch);
  server.on("request", (request, response) => {
    if (guard.admits(request, response)) void answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ({ port } = server.address() as AddressInfo);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-edge-"));
  for (const folder of ["corpus", "pages/assets", "snapshots"]) mkdirSync(join(dir, folder), { recursive: true });
  writeFileSync(join(dir, "secret"), SECRET);
  writeFileSync(join(dir, "corpus/secret"), CONTENT);
  writeFileSync(join(dir, "pages/index.html"), "<!doctype html><title>page</title>");
  nowMs = 0;
  notices = [];
  failures = [];
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  expect(failures, "nothing failed for a reason of ours").toEqual([]);
  rmSync(dir, { recursive: true, force: true });
});

/** Sends the bytes, and resolves to everything that comes back until the connection ends. */
async function raw(bytes: string | Buffer, localAddress = "127.0.0.1"): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", localAddress });
  sockets.push(socket);
  let answer = "";
  socket.on("data", (data: Buffer) => (answer += data.toString("latin1")));
  socket.on("error", () => {});
  socket.write(bytes);
  await Promise.race([
    new Promise((done) => socket.once("close", done)),
    new Promise((done) => setTimeout(done, 15_000).unref()),
  ]);
  return answer;
}

const request = (path: string, ...headers: string[]): string =>
  [`GET ${path} HTTP/1.1`, "Host: localhost", "Connection: close", ...headers, "", ""].join("\r\n");

const through = (client: string, from?: string): Promise<string> => raw(request("/healthz", `X-Forwarded-For: ${client}`), from); // prettier-ignore

const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);

/** The coordinator is as it was. */
async function expectAlive(): Promise<void> {
  expect(status(await raw(request("/healthz")))).toBe(200);
}

describe("paths", () => {
  beforeEach(() => start());

  test.each([
    "/corpus/c0/../secret",
    "/corpus/c0/../../secret",
    "/corpus/c0/..%2fsecret",
    "/corpus/c0/%2e%2e/secret",
    "/corpus/c0/%2e%2e%2fsecret",
    "/corpus/c0/%252e%252e%252fsecret",
    "/corpus/c0/..\\secret",
    "/corpus/c0/..%5csecret",
    "/corpus/c0/..%c0%afsecret",
    "/corpus/c0/%00../secret",
    "/corpus/c0/..%00/../secret",
    "/corpus/c0/secret%00.json",
    "/corpus/c0//etc/passwd",
    "/corpus/c0/%2fetc%2fpasswd",
    "/corpus/c0/....//secret",
    "/corpus/c0/..;/secret",
    "/assets/../../secret",
    "/assets/..%2f..%2fsecret",
    "/assets/..%2findex.html",
    "/snapshots/..%2fsecret",
    "/corpus/c0/.",
    "/corpus/c0/",
    "/corpus/c0/%",
    "/corpus/c0/%zz",
    "http://localhost/../secret",
    "/../secret",
    "//secret",
    `/${"a".repeat(10_000)}`,
    `/corpus/c0/${"../".repeat(1000)}secret`,
  ])("%s leads to nothing outside, and to no error of ours", async (path) => {
    const answer = await raw(request(path));
    // (A path that leads out and in again is the path inside.)
    if (status(answer) === 200) expect(answer).toContain(CONTENT);
    else expect([400, 404]).toContain(status(answer));
    expect(answer).not.toContain(SECRET);
    await expectAlive();
  });

  test("what is there is answered", async () => {
    expect(await raw(request("/corpus/c0/secret"))).toContain(CONTENT);
  });
});

describe("heads", () => {
  beforeEach(() => start());

  test.each<[string, string, number[]]>([
    ["no Host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", [400]],
    [
      "two Hosts",
      "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
      [400, 421, 200],
    ],
    ["a foreign Host", "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n", [421]],
    ["a Host with a path", "GET /status HTTP/1.1\r\nHost: localhost/x\r\n\r\n", [421]],
    ["a head of 20 KB", request("/", `X-Big: ${"x".repeat(20_000)}`), [431]],
    ["10,000 headers", request("/", ...Array.from({ length: 10_000 }, (_, index) => `X${index}: 1`)), [431]],
    ["a header without a colon", request("/", "nonsense"), [400]],
    ["a header name with a space", request("/", "Bad Name: 1"), [400]],
    ["a NUL in a header", request("/", "X: a\0b"), [400]],
    ["a folded header", request("/", "X: a\r\n b"), [400, 200]],
    ["a bare line feed", "GET / HTTP/1.1\nHost: localhost\n\n", [400]],
    ["an unknown method", "OBEY / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", [400]],
    ["TRACE", "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", [400, 404, 405, 500]],
    ["CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", [0, 400, 404]],
    ["HTTP/0.9", "GET /\r\n\r\n", [400, 421]],
    ["HTTP/2 without being asked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]],
    ["TLS", Buffer.from("16030100050100000100", "hex").toString("latin1") + "\r\n\r\n", [400]],
    [
      "both lengths",
      "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      [400],
    ],
    [
      "two lengths",
      "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
      [400],
    ],
    ["a negative length", "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", [400]],
    ["a hidden chunked", "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n", [400]],
    [
      "chunked twice",
      "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
      [400],
    ],
    [
      "a chunk of impossible size",
      "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
      [400],
    ],
  ])("%s is refused in its own way, and nothing else happens", async (_, bytes, allowed) => {
    const answer = await raw(bytes);
    expect(allowed).toContain(status(answer));
    // A second answer would mean that the rest of the bytes was taken for a request of its own.
    expect(answer.match(/HTTP\/1\.1 \d{3}/g)?.length ?? 0).toBeLessThanOrEqual(1);
    await expectAlive();
  });

  test.each(["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])(
    "%s changes nothing and shows nothing",
    async (method) => {
      for (const path of ["/status", "/corpus/c0/secret", "/"]) {
        const answer = await raw(
          `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
        );
        expect(status(answer)).toBe(404);
        expect(answer.toLowerCase()).not.toContain("access-control-allow");
      }
    },
  );
});

describe("ranges", () => {
  beforeEach(() => start());

  test.each<[string, number, string | null]>([
    ["bytes=0-4", 206, "01234"],
    ["bytes=-3", 206, "789"],
    ["bytes=99-", 206, "9"],
    ["bytes=0-0,2-2", 200, null],
    [`bytes=${Array.from({ length: 1000 }, (_, index) => `${index}-${index}`).join(",")}`, 200, null],
    ["bytes=100-", 416, ""],
    ["bytes=-0", 416, ""],
    ["bytes=5-4", 200, null],
    ["bytes=-1-5", 200, null],
    ["bytes=0-99999999999999", 206, null],
    ["bytes=99999999999999999999-", 200, null],
    ["bytes=0x0-0x4", 200, null],
    ["bytes=1e0-2", 200, null],
    ["bytes= 0-4", 200, null],
    ["chars=0-4", 200, null],
  ])("Range: %s answers %d, never more than the file", async (range, expected, body) => {
    const answer = await raw(request("/corpus/c0/secret", `Range: ${range}`));
    expect(status(answer)).toBe(expected);
    expect(answer.slice(answer.indexOf("\r\n\r\n") + 4)).toBe(body ?? CONTENT);
  });
});

test("pages carry their policy, and everything says what type it is", async () => {
  await start();
  const page = await raw(request("/"));
  expect(page).toMatch(/content-security-policy: default-src 'none'; script-src 'self' 'wasm-unsafe-eval';/i);
  expect(page).toMatch(/frame-ancestors 'none'/);
  for (const path of ["/", "/status", "/nothing", "/corpus/c0/secret"]) {
    const answer = await raw(request(path));
    expect(answer, path).toMatch(/x-content-type-options: nosniff/i);
    expect(answer, path).toMatch(/referrer-policy: no-referrer/i);
    expect(answer, path).toMatch(/content-type: \S+/i);
    expect(answer, path).not.toMatch(/x-powered-by|^server:/im);
  }
});

test("an address that asks too fast is told when to come back; another is not concerned", async () => {
  await start({ ...defaultLimits, requestsPerSecond: 1 });
  const answers = [];
  for (let index = 0; index < 12; index++) answers.push(await raw(request("/healthz")));
  expect(answers.map(status)).toEqual([...Array.from({ length: 10 }, () => 200), 429, 429]);
  expect(answers[11]).toMatch(/retry-after: 1\r\n/i);
  expect(status(await raw(request("/healthz"), "127.0.0.2"))).toBe(200);
  nowMs += 1000;
  expect(status(await raw(request("/healthz")))).toBe(200);
  for (let index = 0; index < 20; index++)
    expect(status(await raw(request("/healthz", "Authorization: Bearer own-key")))).toBe(200);
});

test("X-Forwarded-For counts from a trusted proxy, and is noticed from any other", async () => {
  await start({ ...defaultLimits, requestsPerSecond: 1 }, ["127.0.0.1"]);
  for (let index = 0; index < 10; index++) expect(status(await through("198.51.100.1"))).toBe(200);
  expect(status(await through("198.51.100.1"))).toBe(429);
  expect(status(await through("198.51.100.2"))).toBe(200);
  // Whoever is no proxy cannot choose whom it counts as.
  for (let index = 0; index < 10; index++) expect(status(await through(`198.51.100.${index}`, "127.0.0.2"))).toBe(200);
  expect(status(await through("198.51.100.99", "127.0.0.2"))).toBe(429);
  expect(notices).toEqual([expect.stringContaining("--trust-proxy 127.0.0.2")]);
});

test("a head that dribbles in is cut off after its deadline, and so is a body", { timeout: 60_000 }, async () => {
  await start();
  const began = performance.now();
  const slow = [
    "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "POST /admin/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    "",
  ].map(async (head) => {
    const socket = connect(port, "127.0.0.1");
    sockets.push(socket);
    socket.on("error", () => {});
    socket.write(head);
    const dribble = setInterval(() => socket.write("x"), 500);
    socket.resume();
    await new Promise((done) => socket.once("close", done));
    clearInterval(dribble);
    return performance.now() - began;
  });
  const [head = 0, body = 0, nothing = 0] = await Promise.all(slow);
  expect(head).toBeLessThan(25_000);
  expect(body).toBeLessThan(35_000);
  expect(nothing).toBeLessThan(25_000);
  await expectAlive();
});

test("an address has a bounded number of connections; one that is closed makes room", async () => {
  await start({ ...defaultLimits, workersPerAddress: 1 });
  const open = await Promise.all(
    Array.from({ length: 64 }, async () => {
      const socket = connect(port, "127.0.0.1");
      sockets.push(socket);
      socket.on("error", () => {});
      await once(socket, "connect");
      return socket;
    }),
  );
  expect(await raw(request("/healthz"))).toBe("");
  expect(status(await raw(request("/healthz"), "127.0.0.2"))).toBe(200);
  open[0]!.destroy();
  let answer = "";
  for (let attempt = 0; attempt < 50 && answer === ""; attempt++) answer = await raw(request("/healthz"));
  expect(status(answer)).toBe(200);
});
