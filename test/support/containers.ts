/** @file A container engine for tests: found, not started (deploy/ci/start-engine.sh does). Missing, it is a visible skip; in CI it is an error. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { beforeAll, test } from "vitest";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");

const missing = 'no container engine answers: eval "$(deploy/ci/start-engine.sh)" starts one';

export const hasEngine: boolean = answers(["info"]);

if (!hasEngine && process.env["CI"] === "true") throw new Error(missing);

/** The public image where it is here or can be pulled; else the one that start-engine.sh made. */
const localBase = "manyhands-base:local";
export const baseImage: string =
  process.env["BASE_IMAGE"] ?? (hasEngine && answers(["image", "inspect", localBase]) ? localBase : "node:24-slim");

if (baseImage === localBase) {
  // Its own helper image cannot be pulled either.
  process.env["TESTCONTAINERS_RYUK_DISABLED"] ??= "true";
  process.env["TESTCONTAINERS_HOST_OVERRIDE"] ??= "127.0.0.1";
}

/** `test`, for what needs an engine. */
export function containerTest(name: string, body: () => Promise<void>, timeoutMs?: number): void {
  if (hasEngine) test(name, { ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }) }, body);
  else test(name, (context) => context.skip(missing));
}

/** `beforeAll`, for what needs an engine. */
export function withEngine(body: () => Promise<void>): void {
  if (hasEngine) beforeAll(body);
}

/** Builds both images; what did not change is not built again. */
export async function buildImages(): Promise<void> {
  for (const [file, image] of [
    ["coordinator", "manyhands-coordinator"],
    ["worker-node", "manyhands-worker"],
  ] as const) {
    await buildImage(image, `deploy/${file}.Dockerfile`, root);
  }
}

export async function buildImage(image: string, dockerfile: string, context: string): Promise<void> {
  // The host's network: an engine without a firewall has no other way to npm's registry.
  const flags = ["--network", "host", "--build-arg", `BASE_IMAGE=${baseImage}`, "-f", dockerfile, "-t", image];
  await docker("build", "-q", ...flags, context);
}

/** @returns what it printed. @throws Error with what it complained about. */
export async function docker(...args: readonly string[]): Promise<string> {
  const { stdout } = await run("docker", [...args], { cwd: root, maxBuffer: 64 * 1024 * 1024 });
  return stdout.trim();
}

/** Processor time that a container's first process has had, s. */
export function cpuSeconds(id: string): number {
  const pid = execFileSync("docker", ["inspect", "--format", "{{.State.Pid}}", id], { encoding: "utf8" }).trim();
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  // utime and stime, in hundredths of a second on every Linux.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function answers(args: readonly string[]): boolean {
  try {
    execFileSync("docker", [...args], { stdio: "ignore", timeout: 10_000 });
    return true;
  } catch {
    return false;
  }
}
