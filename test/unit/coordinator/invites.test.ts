import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT, UnsecuredJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createGate } from "../../../coordinator/edge/gate.ts";
import { openInvites } from "../../../coordinator/edge/invites.ts";
import type { Invites } from "../../../coordinator/edge/invites.ts";
import { secretFile } from "../../../coordinator/edge/secret.ts";

const START = Date.UTC(2026, 10, 22);
const DAY = 86_400_000;

let dir: string;
let invites: Invites;
let now: number;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-invites-"));
  now = START;
  invites = openInvites(dir, "mine", () => now);
});

afterEach(() => {
  invites.close();
  rmSync(dir, { recursive: true, force: true });
});

const make = (maxUses = 2): ReturnType<Invites["create"]> =>
  invites.create({ name: "class 7b", expiresMs: START + DAY, maxUses });

test("an invite lets in as many workers as it says; one that comes back is the same", async () => {
  const { token, invite } = await make();
  const id = await invites.verify(token);
  expect(id).toBe(invite.id);
  for (const worker of ["a", "b", "a", "b"]) invites.claim(id, worker);
  expect(() => invites.claim(id, "c")).toThrow(/used up: 2 workers/);
  expect(invites.list()).toMatchObject([{ name: "class 7b", uses: 2, maxUses: 2, revokedMs: null }]);
});

test("an invite ends when it says so", async () => {
  const { token } = await make();
  now = START + DAY - 1000;
  await invites.verify(token);
  now = START + DAY;
  await expect(invites.verify(token)).rejects.toMatchObject({ code: "bad-invite", fatal: true });
  await expect(invites.verify(token)).rejects.toThrow("expired on 2026-11-23 00:00");
});

test("a revoked invite is void, and its workers are known", async () => {
  const { token, invite } = await make();
  invites.claim(invite.id, "a");
  expect(invites.revoke(invite.id)).toEqual(["a"]);
  await expect(invites.verify(token)).rejects.toThrow(/revoked on 2026-11-22/);
  expect(invites.revoke("another")).toBeNull();
});

test("what is forged, altered, for another run or without a signature is refused", async () => {
  const { token, invite } = await make();
  const [header, payload = "", signature] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const longer = Buffer.from(JSON.stringify({ ...claims, exp: 4e9 })).toString("base64url");
  const sign = (key: string, audience = "mine"): Promise<string> =>
    new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setAudience(audience).setJti(invite.id).setExpirationTime(4e9).sign(Buffer.from(key)); // prettier-ignore
  const key = readFileSync(join(dir, "invite-secret"), "utf8").trim();
  const unsigned = new UnsecuredJWT({ ...claims, exp: 4e9 }).encode();
  const endless = await new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setAudience("mine").setJti(invite.id).sign(Buffer.from(key)); // prettier-ignore
  const unknown = await new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setAudience("mine").setJti("nobody").setExpirationTime(4e9).sign(Buffer.from(key)); // prettier-ignore
  for (const bad of [
    "",
    "x",
    "a.b.c",
    `${header}.${longer}.${signature}`,
    unsigned,
    endless,
    unknown,
    await sign("guess"),
  ]) {
    await expect(invites.verify(bad), bad).rejects.toMatchObject({ code: "bad-invite" });
  }
  await expect(invites.verify(await sign(key, "another"))).rejects.toThrow("for another run");
});

test("another process sees what is made and revoked at once, with the same secret", async () => {
  const other = openInvites(dir, "mine", () => now);
  const { token, invite } = await make();
  expect(await other.verify(token)).toBe(invite.id);
  other.revoke(invite.id);
  await expect(invites.verify(token)).rejects.toThrow(/revoked/);
  other.close();
});

test("nobody but the owner can read what is kept", () => {
  for (const file of readdirSync(dir)) expect(statSync(join(dir, file)).mode & 0o077, file).toBe(0);
  expect(readdirSync(dir)).toContain("invite-secret");
});

test("a secret is made once, and an existing one is taken as it is; an empty one is none", () => {
  const made = secretFile(join(dir, "made"));
  expect(made).toMatch(/^[\w-]{24}$/);
  expect(secretFile(join(dir, "made"))).toBe(made);
  writeFileSync(join(dir, "given"), "written by hand, long enough\n");
  expect(secretFile(join(dir, "given"))).toBe("written by hand, long enough");
  // What a full disk leaves: whoever knows that it is empty could sign with it.
  writeFileSync(join(dir, "empty"), "");
  expect(() => secretFile(join(dir, "empty"))).toThrow(/empty: holds 0 characters; must hold a secret of at least 16/);
});

test("[P5] the gate: own workers pass; the token passes, else an invite; where neither is asked for, everybody", async () => {
  const { token } = await make(1);
  const open = createGate({ token: null, invites: null });
  (await open(undefined, false))("w");
  const both = createGate({ token: "secret", invites });
  (await both(undefined, true))("own");
  (await both("secret", false))("w");
  (await both(token, false))("first");
  expect(await both(token, false)).toSatisfy((claim: (worker: string) => void) => {
    expect(() => claim("second")).toThrow(/used up/);
    return true;
  });
  await expect(both(undefined, false)).rejects.toMatchObject({ code: "bad-invite" });
  await expect(both("Secret", false)).rejects.toMatchObject({ code: "bad-invite" });
  await expect(createGate({ token: "secret", invites: null })("Secret", false)).rejects.toMatchObject({ code: "bad-token" }); // prettier-ignore
});
