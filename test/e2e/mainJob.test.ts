import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCoordinator, smallCorpus, smallRun, startCoordinator, storedContributions, storedRounds } from "../support/coordinatorProcess.ts"; // prettier-ignore

let dir: string;
let corpus: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-e2e-"));
  corpus = smallCorpus(dir);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const flags = (name: string, ...more: string[]): string[] => ["--run", name, ...smallRun(dir, corpus), ...more];

/** Mean training loss of the first and of the last tenth of the rounds. */
function losses(name: string): { first: number; last: number } {
  const rounds = storedRounds(dir, name);
  const tenth = Math.ceil(rounds.length / 10);
  const mean = (part: typeof rounds): number =>
    part.reduce((sum, { lossSum, tokens }) => sum + lossSum / tokens, 0) / part.length;
  return { first: mean(rounds.slice(0, tenth)), last: mean(rounds.slice(-tenth)) };
}

test("the main job trains, evaluates, writes a sample and says where the model is", async () => {
  const { code, output } = await runCoordinator(flags("whole", "--steps", "200", "--workers", "2"));
  expect(code, output).toBe(0);
  const { first, last } = losses("whole");
  expect(first).toBeGreaterThan(last + 0.8);
  expect(output).toMatch(/step 200\/200 {2}train \d\.\d+ {2}val \d\.\d+/);
  expect(output).toContain("a sample of what it writes now:");
  const model = /model: +(\S+)/.exec(output)?.[1] ?? "";
  expect(readdirSync(join(dir, "runs/whole/snapshots"))).toContain(model.split("/").at(-1));
});

describe("[I1] with strict, the updates are bit-identical for any number of workers", () => {
  for (const codec of ["f32", "i8"]) {
    test(codec, async () => {
      const hashes = new Map<number, string[]>();
      for (const workers of [1, 2, 8]) {
        const name = `strict-${codec}-${workers}`;
        const { code, output } = await runCoordinator(flags(name, "--steps", "12", "--workers", String(workers), "--codec", codec, "--strict")); // prettier-ignore
        expect(code, output).toBe(0);
        hashes.set(workers, storedRounds(dir, name).map(({ hash }) => hash)); // prettier-ignore
      }
      expect(hashes.get(1)).toHaveLength(12);
      expect(hashes.get(2)).toEqual(hashes.get(1));
      expect(hashes.get(8)).toEqual(hashes.get(1));
      // Not the trivial reason: more than one worker did contribute.
      const workers = new Set(storedContributions(dir, `strict-${codec}-2`).map(({ worker }) => worker));
      expect(workers.size).toBe(2);
    });
  }
});

describe("[I4] the same command goes on where it stopped, and ends at the same θ", () => {
  const steps = ["--steps", "60", "--workers", "1", "--snapshot-every", "25"];
  let undisturbed: string[];

  beforeAll(async () => {
    const { code, output } = await runCoordinator(flags("undisturbed", ...steps));
    expect(code, output).toBe(0);
    undisturbed = storedRounds(dir, "undisturbed").map(({ hash }) => hash);
    expect(undisturbed).toHaveLength(60);
  });

  test.each([
    ["SIGINT", 0],
    ["SIGKILL", null],
  ] as const)("after %s", async (signal, expectedCode) => {
    const name = `after-${signal}`;
    // Twice: before the first periodic snapshot, and between two of them.
    for (const version of [10, 35]) {
      const running = await startCoordinator(flags(name, ...steps));
      await running.until((status) => status.version >= version);
      running.child.kill(signal);
      expect(await running.exit, running.output()).toBe(expectedCode);
      const stoppedAt = storedRounds(dir, name).length;
      expect(stoppedAt).toBeGreaterThanOrEqual(version);
      expect(stoppedAt).toBeLessThan(60);
    }
    const { code, output } = await runCoordinator(flags(name, ...steps));
    expect(code, output).toBe(0);
    expect(output).toContain("resumed at step");
    expect(storedRounds(dir, name).map(({ hash }) => hash)).toEqual(undisturbed);
    // [I2] every sample once: rounds follow on each other, units cover each round.
    for (const { version, origin, samples } of storedRounds(dir, name)) expect(origin).toBe((version - 1) * samples);
    const units = new Map<number, number>();
    for (const { version, units: count } of storedContributions(dir, name)) {
      units.set(version, (units.get(version) ?? 0) + count);
    }
    expect([...units.values()]).toEqual(Array.from({ length: 60 }, () => 8));
  });
});

test("a port that is in use is named in one line, exit code 2, and no run is made", async () => {
  const blocker = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => blocker.once("listening", done));
  const { port } = blocker.address() as AddressInfo;
  const { code, output } = await runCoordinator(flags("blocked", "--steps", "5", "--port", String(port)));
  blocker.close();
  expect(code).toBe(2);
  expect(output.trim().split("\n").at(-1)).toMatch(new RegExp(`^error: --port ${port}: another program listens there`));
  expect(readdirSync(join(dir, "runs"))).not.toContain("blocked");
});
