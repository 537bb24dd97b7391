import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { afterEach, beforeEach, expect, test } from "vitest";
import { adminApi } from "../../../coordinator/edge/adminApi.ts";
import { openInvites } from "../../../coordinator/edge/invites.ts";
import type { Invites } from "../../../coordinator/edge/invites.ts";

const TOKEN = "an-admin-token-of-some-length";
const DATE = Date.UTC(2026, 10, 22);

let dir: string;
let invites: Invites;
let api: Hono;
let log: string[];
let nowMs: number;
let address: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-admin-"));
  invites = openInvites(dir, "mine", () => DATE);
  log = [];
  nowMs = 0;
  address = "a";
  api = adminApi({
    token: TOKEN,
    addressOf: () => address,
    nowMs: () => nowMs,
    dateMs: () => DATE,
    invites,
    pause: (reason) => void log.push(`pause ${reason}`),
    resume: () => log.push("resume") > 0,
    stop: () => void log.push("stop"),
    kick: (worker, reason) => log.push(`kick ${worker} ${reason}`) > 0 && worker === "known",
    ban: (worker) => log.push(`ban ${worker}`) > 0,
    unban: (worker) => worker === "known",
    bans: () => [{ worker: "known" }],
    snapshot: () => Promise.resolve({ version: 7, path: "/snapshots/7-0.safetensors" }),
    eventsAfter: (id, limit) => (id < 5 ? [{ id: 5, atMs: 1, code: "joined", text: `at most ${limit}` }] : []),
    onError: (error) => {
      throw error;
    },
    onAction: (text) => void log.push(text),
  });
});

afterEach(() => {
  invites.close();
  rmSync(dir, { recursive: true, force: true });
});

type Answer = { status: number; json: Record<string, unknown>; headers: Headers };

async function ask(
  method: string,
  path: string,
  body?: string | Uint8Array<ArrayBuffer> | object,
  token: string | null = TOKEN,
): Promise<Answer> {
  const isRaw = body === undefined || typeof body === "string" || body instanceof Uint8Array;
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await api.request(`/admin${path}`, { method, headers, body: isRaw ? ((body as string | undefined) ?? null) : JSON.stringify(body) }); // prettier-ignore
  return {
    status: response.status,
    json: (await response.json()) as Record<string, unknown>,
    headers: response.headers,
  };
}

const code = ({ json }: Answer): unknown => (json["error"] as { code: string }).code;

const operations = [
  ["POST", "/pause"],
  ["POST", "/resume"],
  ["POST", "/stop"],
  ["POST", "/kick"],
  ["POST", "/ban"],
  ["POST", "/unban"],
  ["POST", "/snapshot"],
  ["GET", "/bans"],
  ["GET", "/invites"],
  ["POST", "/invites"],
  ["DELETE", "/invites/x"],
  ["GET", "/events"],
  ["GET", "/nothing"],
] as const;

test.each(operations)("%s %s needs the admin token, as a bearer and nowhere else", async (method, path) => {
  for (const token of [null, "", "wrong", `${TOKEN}x`, TOKEN.slice(1)]) {
    expect(await ask(method, path, undefined, token).then(({ status }) => status)).toBe(401);
  }
  const elsewhere = await api.request(`/admin${path}?token=${TOKEN}`, {
    method,
    headers: { cookie: `token=${TOKEN}`, authorization: `Basic ${btoa(`:${TOKEN}`)}`, "x-admin-token": TOKEN },
  });
  expect(elsewhere.status).toBe(401);
  expect(elsewhere.headers.get("access-control-allow-origin")).toBeNull();
  expect(log).toEqual([]);
});

test("an address that guesses is made to wait, the right token included; others are not", async () => {
  for (let guess = 0; guess < 10; guess++) expect((await ask("GET", "/bans", undefined, `guess ${guess}`.replace(" ", ""))).status).toBe(401); // prettier-ignore
  const waiting = await ask("GET", "/bans");
  expect(code(waiting)).toBe("too-many-attempts");
  expect(waiting.headers.get("retry-after")).toBe("5");
  address = "b";
  expect((await ask("GET", "/bans")).status).toBe(200);
  address = "a";
  nowMs += 5000;
  expect((await ask("GET", "/bans")).status).toBe(200);
});

test("every operation does what it says, with defaults for what is left out", async () => {
  expect((await ask("POST", "/pause")).json).toEqual({ paused: true });
  expect((await ask("POST", "/pause", { reason: "lunch" })).status).toBe(200);
  expect((await ask("POST", "/resume")).json).toEqual({ resumed: true });
  expect((await ask("POST", "/kick", { worker: "known", reason: "slow" })).json).toEqual({ kicked: "known" });
  expect(code(await ask("POST", "/kick", { worker: "other" }))).toBe("not-found");
  expect((await ask("POST", "/ban", { worker: "other" })).json).toEqual({ banned: "other", wasConnected: true });
  expect((await ask("POST", "/unban", { worker: "known" })).json).toEqual({ unbanned: "known" });
  expect(code(await ask("POST", "/unban", { worker: "other" }))).toBe("not-found");
  expect((await ask("POST", "/snapshot")).json).toEqual({ version: 7, path: "/snapshots/7-0.safetensors" });
  expect((await ask("GET", "/bans")).json).toEqual({ bans: [{ worker: "known" }] });
  expect((await ask("GET", "/events?since=3&limit=9")).json).toEqual({
    events: [{ id: 5, atMs: 1, code: "joined", text: "at most 9" }],
    next: 5,
  });
  expect((await ask("GET", "/events?since=5")).json).toEqual({ events: [], next: 5 });
  expect((await ask("POST", "/stop")).json).toEqual({ stopping: true });
  expect(log).toEqual(["pause by the operator", "pause lunch", "resume", "kick known slow", "kick other ", "ban other", "unban known", "stop", "stop"]); // prettier-ignore
});

test("invites are made, listed without their tokens, and revoked together with their workers", async () => {
  const made = await ask("POST", "/invites", { name: "7b", expiresInMs: 3_600_000, maxUses: 3 });
  expect(made.status).toBe(201);
  const { token, path, invite } = made.json as { token: string; path: string; invite: { id: string } };
  expect(path).toBe(`/#token=${token}`);
  const id = await invites.verify(token);
  invites.claim(id, "known");
  const listed = await ask("GET", "/invites");
  expect(listed.json).toMatchObject({ invites: [{ id: invite.id, name: "7b", uses: 1, expiresMs: DATE + 3_600_000 }] });
  expect(JSON.stringify(listed.json)).not.toContain(token);
  expect((await ask("DELETE", `/invites/${id}`)).json).toEqual({ revoked: id, kicked: ["known"] });
  await expect(invites.verify(token)).rejects.toThrow(/revoked/);
  expect(log.join()).not.toContain(token);
});

const deep = "[".repeat(8000) + "]".repeat(8000);

test.each<[string, string | Uint8Array]>([
  ["half a document", '{"worker":'],
  ["nothing but nesting", deep],
  ["nesting in a field", `{"worker":${deep}}`],
  ["an array", '[{"worker":"known"}]'],
  ["null", "null"],
  ["a number beyond numbers", '{"worker":1e999}'],
  ["a number with many digits", `{"worker":${"9".repeat(10_000)}}`],
  ["a prototype", '{"worker":"known","__proto__":{"admin":true}}'],
  ["a constructor", '{"worker":"known","constructor":{"prototype":{"admin":true}}}'],
  ["a field too many", '{"worker":"known","force":true}'],
  ["bytes that are not UTF-8", new Uint8Array([0x22, 0xff, 0xfe, 0x22])],
  ["a string with NUL", '{"worker":"known\\u0000"}'],
  ["a path", '{"worker":"../../known"}'],
  ["a long reason", JSON.stringify({ worker: "known", reason: "x".repeat(201) })],
  ["the same field twice, the last one wrong", '{"worker":"known","worker":5}'],
])("a body of %s is refused as bad-request, and nothing happens", async (_, body) => {
  const answer = await ask("POST", "/ban", body);
  expect(answer.status).toBe(400);
  expect(code(answer)).toBe("bad-request");
  expect(log).toEqual([]);
  expect(({} as { admin?: boolean }).admin).toBeUndefined();
});

test("a body of more than 16 KiB is refused before it is read", async () => {
  const answer = await ask("POST", "/pause", { reason: "x".repeat(20_000) });
  expect(answer.status).toBe(413);
  expect(code(answer)).toBe("too-large");
});

test.each(["since=-1", "since=1.5", "since=x", "limit=0", "limit=1001", "limit=1e9", "other=1"])(
  "events?%s is refused",
  async (query) => {
    expect(code(await ask("GET", `/events?${query}`))).toBe("bad-request");
  },
);
