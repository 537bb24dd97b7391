import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lockRun } from "../../../coordinator/store/runLock.ts";
import { runCoordinator, smallCorpus, smallRun, startCoordinator } from "../../support/coordinatorProcess.ts";
import type { CoordinatorProcess } from "../../support/coordinatorProcess.ts";

let dir: string;
let flags: string[];
const started: CoordinatorProcess[] = [];

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-runs-"));
  flags = ["--run", "mine", ...smallRun(dir, smallCorpus(dir)), "--steps", "100000", "--workers", "1"];
});
afterAll(async () => {
  for (const { child, exit } of started) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exit;
  }
  rmSync(dir, { recursive: true, force: true });
});

async function start(...more: string[]): Promise<CoordinatorProcess> {
  const running = await startCoordinator([...flags, ...more]);
  started.push(running);
  return running;
}

/** The program, as a process: the run's lock is between processes. */
async function runs(...args: string[]): Promise<{ code: number | null; output: string }> {
  const program = resolve(import.meta.dirname, "../../../coordinator/runsMain.ts");
  const child = spawn(process.execPath, [program, "--runs-dir", join(dir, "runs"), ...args], { stdio: ["ignore", "pipe", "pipe"] }); // prettier-ignore
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

test("list, show, pause and resume act on a run that is being served; a second coordinator and delete are refused", async () => {
  expect(await runs("list")).toMatchObject({ code: 0, output: expect.stringMatching(/^no runs in /) as unknown });
  const running = await start();
  await running.until(({ version }) => version >= 3);
  const list = await runs("list", "--json");
  expect(JSON.parse(list.output)).toMatchObject([{ name: "mine", state: "running", url: running.url, steps: 100_000 }]);
  expect((await runs("show", "mine")).output).toMatch(/^run +mine\nstate +running {2}http.*\nstep +\d+ of 100,000/);

  expect((await runs("pause", "mine", "--reason", "a new cable")).output).toBe('run "mine" is paused\n');
  const held = await running.until((status) => status.phase === "paused" && status.workers.every(({ waitingReason }) => waitingReason !== "")); // prettier-ignore
  expect(held.paused).toEqual({ operator: "a new cable" });
  expect((await runs("list")).output).toMatch(/mine +paused .*a new cable/);
  expect((await runs("resume", "mine")).output).toBe('run "mine" goes on\n');
  await running.until((status) => status.phase !== "paused" && status.version > held.version + 1);

  const second = await runCoordinator(flags);
  expect(second.code).toBe(2);
  expect(second.output).toMatch(new RegExp(`^error: --run mine: another coordinator has it open \\(process ${running.child.pid}, ${running.url}\\)`, "m")); // prettier-ignore
  const refused = await runs("delete", "mine", "--yes");
  expect(refused).toMatchObject({ code: 2, output: expect.stringMatching(/^error: mine: is being served \(process/) as unknown }); // prettier-ignore
});

test("a coordinator that was killed leaves no lock; its run can be paused, begins paused, and goes on when told", async () => {
  const [before] = started;
  before!.child.kill("SIGKILL");
  await before!.exit;
  expect(JSON.parse((await runs("list", "--json")).output)).toMatchObject([{ state: "stopped", url: null }]);
  expect((await runs("pause", "mine")).output).toBe(
    'run "mine" is not being served; it will be paused when it is started\n',
  );
  const running = await start("--host", "0.0.0.0");
  const { pid, url } = JSON.parse(readFileSync(join(dir, "runs/mine/coordinator.json"), "utf8")) as Record<string, unknown>; // prettier-ignore
  expect({ pid, url }).toEqual({ pid: running.child.pid, url: running.url.replace("0.0.0.0", "127.0.0.1") });
  const { version } = await running.until((status) => status.workers.some(({ waitingReason }) => waitingReason !== ""));
  expect((await running.status()).reason).toBe("paused: by the operator");
  expect((await running.status()).version).toBe(version);
  expect((await runs("resume", "mine")).code).toBe(0);
  await running.until((status) => status.version > version + 1);
  running.child.kill("SIGINT");
  expect(await running.exit, running.output()).toBe(0);
  expect(existsSync(join(dir, "runs/mine/coordinator.json"))).toBe(false);
});

test("a run is deleted when it is meant, and no other folder is", async () => {
  expect(await runs("delete", "mine")).toMatchObject({ code: 2, output: expect.stringMatching(/must be given --yes/) as unknown }); // prettier-ignore
  for (const name of ["..", "../runs", "none", ".", "a/b"]) expect((await runs("delete", name, "--yes")).code).toBe(2);
  expect(await runs("nonsense")).toMatchObject({ code: 2, output: expect.stringMatching(/^error: /) as unknown });
  expect((await runs("delete", "mine", "--yes")).output).toBe('run "mine" is deleted\n');
  expect(existsSync(join(dir, "runs/mine"))).toBe(false);
});

test("a lock is held once, and can be taken again when it was released", () => {
  const folder = mkdtempSync(join(dir, "lock-"));
  const lock = lockRun(folder);
  expect(lock).not.toBeNull();
  expect(lockRun(folder, { patienceMs: 0 })).toBeNull();
  lock!.release();
  lockRun(folder, { patienceMs: 0 })!.release();
});
