/**
 * @file Invites: signed, expiring permits to join one run. The token (a JWT, HS256) carries run, expiry and id; the book beside
 * it says how often each was used and which are revoked. Both the coordinator and `npm run invite` open the book.
 */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { errors, jwtVerify, SignJWT } from "jose";
import { ProtocolError } from "../../shared/wire/protocol.ts";
import type { WorkerId } from "../../shared/wire/protocol.ts";
import { newSecret, secretFile } from "./secret.ts";

export type Invite = {
  readonly id: string;
  /** For the operator: whom it was given to. */
  readonly name: string;
  readonly createdMs: number;
  readonly expiresMs: number;
  /** Workers that may join with it; one that comes back is the same. */
  readonly maxUses: number;
  readonly uses: number;
  /** Null while it is good. */
  readonly revokedMs: number | null;
};

export type Invites = {
  /** @returns the token: it is not kept, and cannot be shown again. */
  readonly create: (wanted: {
    readonly name: string;
    readonly expiresMs: number;
    readonly maxUses: number;
  }) => Promise<{ readonly invite: Invite; readonly token: string }>;
  /** Newest first. */
  readonly list: () => readonly Invite[];
  /** The workers that joined with it; null when there is no such invite. */
  readonly revoke: (id: string) => readonly WorkerId[] | null;
  /** The invite's id. @throws ProtocolError `bad-invite` when it is not good, saying why. */
  readonly verify: (token: string) => Promise<string>;
  /** Counts the worker against the invite, once. @throws ProtocolError `bad-invite` when it is used up. */
  readonly claim: (id: string, worker: WorkerId) => void;
  readonly close: () => void;
};

const SECRET_FILE = "invite-secret";
const BOOK_FILE = "invites.sqlite";

/** The run's folder must exist. */
export function openInvites(runDir: string, run: string, nowMs: () => number): Invites {
  const key = Buffer.from(secretFile(join(runDir, SECRET_FILE)));
  const file = join(runDir, BOOK_FILE);
  // Made here, for SQLite would let others read it.
  closeSync(openSync(file, "a", 0o600));
  const book = new DatabaseSync(file, { timeout: 5000 });
  book.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS invite (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, createdMs REAL NOT NULL, expiresMs REAL NOT NULL, maxUses INTEGER NOT NULL,
      revokedMs REAL) STRICT;
    CREATE TABLE IF NOT EXISTS usedBy (
      invite TEXT NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (invite, worker)) STRICT, WITHOUT ROWID;`);
  const select = `SELECT invite.*, (SELECT count(*) FROM usedBy WHERE invite = id) AS uses FROM invite`;
  const find = (id: string): Invite | undefined => book.prepare(`${select} WHERE id = ?`).get(id) as Invite | undefined;

  return {
    async create({ name, expiresMs, maxUses }) {
      const id = newSecret();
      const token = await new SignJWT({ name })
        .setProtectedHeader({ alg: "HS256" })
        .setAudience(run)
        .setJti(id)
        .setExpirationTime(Math.floor(expiresMs / 1000))
        .sign(key);
      book.prepare("INSERT INTO invite VALUES (?, ?, ?, ?, ?, NULL)").run(id, name, nowMs(), expiresMs, maxUses);
      return { invite: find(id)!, token };
    },
    list: () => book.prepare(`${select} ORDER BY createdMs DESC`).all() as Invite[],
    revoke(id) {
      if (find(id) === undefined) return null;
      book.prepare("UPDATE invite SET revokedMs = ? WHERE id = ? AND revokedMs IS NULL").run(nowMs(), id);
      return (book.prepare("SELECT worker FROM usedBy WHERE invite = ?").all(id) as { worker: string }[]).map(
        ({ worker }) => worker,
      );
    },
    async verify(token) {
      const id = await verifiedId(token, key, run, nowMs());
      const invite = find(id);
      if (invite === undefined) throw refusal("is not known to this run");
      if (invite.revokedMs !== null) throw refusal(`was revoked on ${date(invite.revokedMs)}`);
      return id;
    },
    claim(id, worker) {
      // One statement: two workers cannot both be the last one.
      const { changes } = book
        .prepare(
          `INSERT INTO usedBy SELECT id, ? FROM invite
           WHERE id = ? AND (SELECT count(*) FROM usedBy WHERE invite = id) < maxUses ON CONFLICT DO NOTHING`,
        )
        .run(worker, id);
      if (changes === 1) return;
      if (book.prepare("SELECT 1 FROM usedBy WHERE invite = ? AND worker = ?").get(id, worker) !== undefined) return;
      throw refusal(`is used up: ${find(id)?.maxUses} workers have joined with it`);
    },
    close: () => book.close(),
  };
}

async function verifiedId(token: string, key: Uint8Array, run: string, nowMs: number): Promise<string> {
  try {
    const options = {
      algorithms: ["HS256"],
      audience: run,
      requiredClaims: ["exp", "jti"],
      currentDate: new Date(nowMs),
    };
    const { payload } = await jwtVerify(token, key, options);
    return payload.jti ?? "";
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw refusal(`expired on ${date((error.payload.exp ?? 0) * 1000)}`);
    if (error instanceof errors.JWTClaimValidationFailed && error.claim === "aud") throw refusal("is for another run");
    if (error instanceof errors.JOSEError) throw refusal("is not one of this run's");
    throw error;
  }
}

function refusal(what: string): ProtocolError {
  return new ProtocolError("bad-invite", `this invite ${what}; ask the run's operator for a new one`);
}

function date(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
