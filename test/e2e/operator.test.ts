/** @file An operator's day with a real run: invites, the admin API, and no secret anywhere that others read. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";
import type { CoordinatorProcess } from "../support/coordinatorProcess.ts";

const root = resolve(import.meta.dirname, "../..");

const RUN_TOKEN = "the-token-of-this-run-0815";
const ADMIN_TOKEN = "the-admin-token-of-this-run-4711";

let dir: string;
let coordinator: CoordinatorProcess;
let children: ChildProcess[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-operator-"));
  children = [];
  coordinator = await startCoordinator(
    ["--run", "mine", ...smallRun(dir, smallCorpus(dir)), "--steps", "1000000", "--workers", "1", "--invites"],
    { MANYHANDS_TOKEN: RUN_TOKEN, MANYHANDS_ADMIN_TOKEN: ADMIN_TOKEN },
  );
});

afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  coordinator.child.kill("SIGKILL");
  await coordinator.exit;
  rmSync(dir, { recursive: true, force: true });
});

async function admin(
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${coordinator.url}/admin${path}`, {
    method,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

/** `npm run invite` or `npm run worker`, with everything that it prints. */
function program(
  file: string,
  flags: readonly string[],
  token?: string,
): { child: ChildProcess; output: () => string; code: Promise<number | null> } {
  const { MANYHANDS_TOKEN: _, ...clean } = process.env;
  const env = token === undefined ? clean : { ...clean, MANYHANDS_TOKEN: token };
  const child = spawn(process.execPath, [join(root, file), ...flags], { env, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
  return { child, output: () => output, code: once(child, "close").then(([code]) => code as number | null) };
}

const worker = (name: string, token?: string): ReturnType<typeof program> =>
  program("worker-node/main.ts", ["--url", coordinator.url, "--name", name, "--engine", "cpu"], token);

async function invite(...flags: string[]): Promise<{ link: URL; token: string; id: string }> {
  const made = program("coordinator/invite.ts", ["--run", "mine", "--runs-dir", join(dir, "runs"), ...flags]);
  expect(await made.code, made.output()).toBe(0);
  const link = new URL(/^http\S+$/m.exec(made.output())?.[0] ?? "");
  const token = new URLSearchParams(link.hash.slice(1)).get("token") ?? "";
  return { link, token, id: /^(\S{24}) {2}good until/m.exec(made.output())?.[1] ?? "" };
}

const names = ({ workers }: { workers: readonly { name: string }[] }): string[] => workers.map(({ name }) => name);

test("an invite lets a worker in, a used one and a stranger not; revoking it sends its worker away for good", async () => {
  await coordinator.until(({ version }) => version > 0);
  const stranger = worker("stranger");
  expect(await stranger.code).toBe(1);
  expect(stranger.output()).toContain("bad-invite: this run takes invited workers");

  const { link, token, id } = await invite("--uses", "1", "--expires", "1h", "--name", "a friend");
  expect(link.origin).toBe(coordinator.url);
  const friend = worker("friend", token);
  await coordinator.until((status) => names(status).includes("friend"));
  const second = worker("second", token);
  expect(await second.code).toBe(1);
  expect(second.output()).toContain("used up: 1 workers have joined with it");

  const revoked = await admin("DELETE", `/invites/${id}`);
  expect(revoked.json).toMatchObject({ revoked: id, kicked: [expect.any(String)] });
  expect(await friend.code, friend.output()).toBe(1);
  expect(friend.output()).toMatch(/kicked|bad-invite/);
  await coordinator.until((status) => names(status).join() === "local 1");
});

test("pause, resume, kick, ban, snapshot, events and stop do what they say to a run that trains", async () => {
  const holder = worker("with the token", RUN_TOKEN);
  const before = await coordinator.until((status) => status.version > 2 && names(status).includes("with the token"));
  const id = before.workers.find(({ name }) => name === "with the token")?.worker ?? "";

  expect((await admin("POST", "/pause")).status).toBe(200);
  await coordinator.until(({ reason }) => reason === "paused: by the operator");
  expect((await admin("POST", "/pause", { reason: "lunch" })).status).toBe(200);
  const paused = await coordinator.until(({ phase }) => phase === "paused");
  await new Promise((done) => setTimeout(done, 500));
  expect((await coordinator.status()).version, "a round in work may end, no other begins").toBeLessThanOrEqual(paused.version + 1); // prettier-ignore
  expect((await admin("POST", "/resume")).json).toEqual({ resumed: true });
  await coordinator.until(({ version }) => version > paused.version + 3);

  const { json: snapshot } = await admin("POST", "/snapshot");
  expect(existsSync(join(dir, "runs/mine", String(snapshot["path"])))).toBe(true);

  expect((await admin("POST", "/ban", { worker: id, reason: "a test" })).json).toMatchObject({ wasConnected: true });
  expect(await holder.code).toBe(1);
  expect(holder.output()).toContain("banned by the operator: a test");
  expect((await admin("GET", "/bans")).json).toMatchObject({ bans: [{ worker: id }] });
  expect((await admin("POST", "/unban", { worker: id })).status).toBe(200);

  const { json } = await admin("GET", "/events?since=0");
  const codes = new Set((json["events"] as { code: string }[]).map(({ code }) => code));
  for (const code of ["joined", "paused", "resumed", "banned", "operator"]) expect([...codes]).toContain(code);

  const running = join(dir, "runs/mine/coordinator.json");
  expect(JSON.parse(readFileSync(running, "utf8"))).toEqual({ pid: coordinator.child.pid, url: coordinator.url });
  expect((await admin("POST", "/stop")).json).toEqual({ stopping: true });
  expect(await coordinator.exit, coordinator.output()).toBe(0);
  expect(existsSync(running)).toBe(false);
});

test("no secret is in anything that others read", async () => {
  const { token: inviteToken } = await invite();
  const guest = worker("guest", inviteToken);
  await coordinator.until((status) => names(status).includes("guest"));
  // Whatever is refused must not be repeated either.
  const wrong = worker("wrong", `${inviteToken.slice(0, -2)}xx`);
  await wrong.code;
  await fetch(`${coordinator.url}/admin/stop`, {
    method: "POST",
    headers: { authorization: "Bearer a-wrong-admin-token-0" },
  });
  await fetch(`${coordinator.url}/status?token=${RUN_TOKEN}`, { headers: { authorization: `Bearer ${RUN_TOKEN}` } });
  await admin("POST", "/pause", { reason: "a look around" });
  await admin("POST", "/resume");
  const publicPages = await Promise.all(
    ["/status", "/metrics", "/healthz", "/", "/dashboard"].map(async (path) =>
      (await fetch(coordinator.url + path)).text(),
    ),
  );
  const events = JSON.stringify((await admin("GET", "/events")).json);
  const list = JSON.stringify((await admin("GET", "/invites")).json);
  coordinator.child.kill("SIGTERM");
  expect(await coordinator.exit).toBe(0);
  guest.child.kill("SIGTERM");
  await guest.code;

  const database = new DatabaseSync(join(dir, "runs/mine/ledger.sqlite"), { readOnly: true });
  const identities = (database.prepare("SELECT secret FROM worker").all() as { secret: string }[]).map(({ secret }) => secret); // prettier-ignore
  const written = JSON.stringify(database.prepare("SELECT * FROM event").all());
  database.close();
  expect(identities.length).toBeGreaterThan(1);
  const inviteSecret = readFileSync(join(dir, "runs/mine/invite-secret"), "utf8").trim();
  expect(statSync(join(dir, "runs/mine/invite-secret")).mode & 0o077).toBe(0);
  expect(existsSync(join(dir, "runs/mine/admin-token")), "the token was given: none is made").toBe(false);

  const read = {
    output: coordinator.output(),
    guest: guest.output(),
    wrong: wrong.output(),
    public: publicPages.join("\n"),
    events,
    written,
    list,
    "run.yaml": readFileSync(join(dir, "runs/mine/run.yaml"), "utf8"),
  };
  for (const secret of [RUN_TOKEN, ADMIN_TOKEN, inviteToken, inviteSecret, "a-wrong-admin-token-0", ...identities]) {
    for (const [where, text] of Object.entries(read)) expect(text.includes(secret), `a secret in ${where}`).toBe(false);
  }
  expect(read.written, "not the trivial reason: the refusal is there").toContain("bad-invite");
});
