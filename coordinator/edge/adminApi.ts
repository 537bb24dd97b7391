/**
 * @file What changes a run, over HTTP: `Authorization: Bearer` with the admin token, JSON in and out. A page elsewhere cannot
 * make a browser send that header, so there is nothing to forge; wrong tokens are counted per address.
 */
import { Hono } from "hono";
import type { Context, ErrorHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { createMiddleware } from "hono/factory";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as z from "zod";
import { createAddressRates } from "./addressLimits.ts";
import type { Invite, Invites } from "./invites.ts";
import { wrongTokenRate } from "./limits.ts";
import { sameSecret } from "./secret.ts";

export type AdminEvent = { readonly id: number; readonly atMs: number; readonly code: string; readonly text: string };

export type AdminConfig = {
  readonly token: string;
  /** Whom a request comes from, for counting wrong tokens. */
  readonly addressOf: (context: Context) => string;
  readonly nowMs: () => number;
  /** The wall clock, for what invites say. */
  readonly dateMs: () => number;
  readonly invites: Invites;
  readonly pause: (reason: string) => void;
  /** Whether it was paused by the operator. */
  readonly resume: () => boolean;
  readonly stop: () => void;
  /** Whether such a worker was connected. */
  readonly kick: (worker: string, reason: string) => boolean;
  readonly ban: (worker: string, reason: string) => boolean;
  readonly unban: (worker: string) => boolean;
  readonly bans: () => readonly unknown[];
  readonly snapshot: () => Promise<{ readonly version: number; readonly path: string }>;
  readonly eventsAfter: (id: number, limit: number) => readonly AdminEvent[];
  /** Answers a request that failed for a reason of ours. */
  readonly onError: ErrorHandler;
  /** What was done, for the ledger. */
  readonly onAction: (text: string) => void;
};

export type AdminErrorCode = "unauthorized" | "too-many-attempts" | "bad-request" | "too-large" | "not-found";

/** Where it is served. */
export const ADMIN_PATH = "/admin";

const MAX_BODY_BYTES = 16 * 1024;

const MAX_EVENTS = 1000;

const YEAR_MS = 365 * 24 * 3600 * 1000;

const worker = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be a worker's id");
const reason = z.string().max(200).default("");
const nothing = z.strictObject({});
const why = z.strictObject({ reason });
const who = z.strictObject({ worker });
const whoAndWhy = z.strictObject({ worker, reason });
const wantedInvite = z.strictObject({
  name: z.string().max(64).default(""),
  expiresInMs: z.int().min(60_000).max(YEAR_MS),
  maxUses: z.int().min(1).max(100_000).default(1000),
});
const eventsQuery = z.strictObject({
  since: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  limit: z.coerce.number().int().min(1).max(MAX_EVENTS).default(MAX_EVENTS),
});

/** A request that cannot be done as it is: answered with its status and `{error: {code, message}}`. */
class AdminError extends Error {
  readonly status: ContentfulStatusCode;
  readonly code: AdminErrorCode;

  constructor(status: ContentfulStatusCode, code: AdminErrorCode, message: string) {
    super(message);
    this.name = "AdminError";
    this.status = status;
    this.code = code;
  }
}

export function adminApi(config: AdminConfig): Hono {
  const { token, invites, onAction } = config;
  const app = new Hono().basePath(ADMIN_PATH);
  const wrongTokens = createAddressRates(wrongTokenRate);

  const authorise = createMiddleware(async (context, next) => {
    const address = config.addressOf(context);
    const waitMs = wrongTokens.waitMs(address, 1, config.nowMs());
    if (waitMs > 0) {
      context.header("Retry-After", String(Math.ceil(waitMs / 1000)));
      throw new AdminError(429, "too-many-attempts", "too many wrong tokens from this address");
    }
    const given = /^Bearer (\S{1,500})$/.exec(context.req.header("authorization") ?? "")?.[1];
    if (given === undefined || !sameSecret(given, token)) {
      // Who sends none, guesses nothing.
      if (given !== undefined) wrongTokens.take(address, 1, config.nowMs());
      context.header("WWW-Authenticate", "Bearer");
      throw new AdminError(401, "unauthorized", "the admin token is missing or wrong");
    }
    await next();
  });
  const refuseLarge = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new AdminError(413, "too-large", `a body has at most ${MAX_BODY_BYTES} bytes`);
    },
  });
  app.use("*", authorise, refuseLarge);
  app.use("*", async (context, next) => {
    await next();
    context.header("Cache-Control", "no-store");
  });

  app.post("/pause", async (context) => {
    const { reason: text } = await body(context, why);
    // Is shown after "paused: ".
    config.pause(text === "" ? "by the operator" : text);
    return context.json({ paused: true });
  });
  app.post("/resume", async (context) => {
    await body(context, nothing);
    return context.json({ resumed: config.resume() });
  });
  app.post("/stop", async (context) => {
    await body(context, nothing);
    onAction("stop");
    config.stop();
    return context.json({ stopping: true });
  });
  app.post("/kick", async (context) => {
    const { worker: id, reason: text } = await body(context, whoAndWhy);
    if (!config.kick(id, text)) throw new AdminError(404, "not-found", `no worker ${id} is connected`);
    return context.json({ kicked: id });
  });
  app.post("/ban", async (context) => {
    const { worker: id, reason: text } = await body(context, whoAndWhy);
    return context.json({ banned: id, wasConnected: config.ban(id, text) });
  });
  app.post("/unban", async (context) => {
    const { worker: id } = await body(context, who);
    if (!config.unban(id)) throw new AdminError(404, "not-found", `worker ${id} is not banned`);
    onAction(`unban ${id}`);
    return context.json({ unbanned: id });
  });
  app.get("/bans", (context) => context.json({ bans: config.bans() }));
  app.post("/snapshot", async (context) => {
    await body(context, nothing);
    return context.json(await config.snapshot());
  });
  app.get("/invites", (context) => context.json({ invites: invites.list() }));
  app.post("/invites", async (context) => {
    const { name, expiresInMs, maxUses } = await body(context, wantedInvite);
    const created = await invites.create({ name, maxUses, expiresMs: config.dateMs() + expiresInMs });
    onAction(`invite ${created.invite.id} for "${name}"`);
    const { invite, token: inviteToken } = created;
    // The part of the link behind "#" is sent to no server, and so is in no log.
    return context.json({ invite: invite satisfies Invite, token: inviteToken, path: `/#token=${inviteToken}` }, 201);
  });
  app.delete("/invites/:id", (context) => {
    const id = context.req.param("id");
    const workers = invites.revoke(id);
    if (workers === null) throw new AdminError(404, "not-found", "there is no such invite");
    onAction(`revoke invite ${id}`);
    const kicked = workers.filter((joined) => config.kick(joined, "the invite it came with was revoked"));
    return context.json({ revoked: id, kicked });
  });
  app.get("/events", (context) => {
    const query = eventsQuery.safeParse(context.req.query());
    if (!query.success) throw invalid(query.error);
    const events = config.eventsAfter(query.data.since, query.data.limit);
    return context.json({ events, next: events.at(-1)?.id ?? query.data.since });
  });
  app.all("*", () => {
    throw new AdminError(404, "not-found", "no such operation");
  });
  app.onError((error, context) => {
    if (!(error instanceof AdminError)) return config.onError(error, context);
    context.header("Cache-Control", "no-store");
    return context.json({ error: { code: error.code, message: error.message } }, error.status);
  });
  return app;
}

/** The body as JSON of this schema; none is an empty object. @throws AdminError `bad-request` naming the field. */
async function body<T>(context: Context, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await context.req.arrayBuffer());
    value = text.trim() === "" ? {} : JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new AdminError(400, "bad-request", "the body is not JSON in UTF-8");
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalid(parsed.error);
  return parsed.data;
}

function invalid(error: z.ZodError): AdminError {
  const [issue] = error.issues;
  const field = issue === undefined || issue.path.length === 0 ? "body" : issue.path.join(".");
  return new AdminError(400, "bad-request", `${field}: ${issue?.message ?? "not understood"}`.slice(0, 300));
}
