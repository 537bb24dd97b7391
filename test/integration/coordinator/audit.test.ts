import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { audit, checkSamples } from "../../../coordinator/store/audit.ts";
import type { AuditReport } from "../../../coordinator/store/audit.ts";
import { recordBytes } from "../../../coordinator/store/journal.ts";
import { readLedger } from "../../../coordinator/store/ledger.ts";
import { loadRun } from "../../../coordinator/settings/resolveRun.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import {
  runCoordinator,
  smallCorpus,
  smallRun,
  startCoordinator,
  storedRounds,
} from "../../support/coordinatorProcess.ts";

let dir: string;
let flags: string[];
const STEPS = 40;

/** A run that was killed once, went on, and has more than one epoch behind it. */
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-audit-"));
  const text = join(dir, "short.txt");
  writeFileSync(text, readFileSync(smallCorpus(dir), "utf8").slice(0, 5000));
  flags = [
    "--run",
    "good",
    ...smallRun(dir, text),
    "--steps",
    String(STEPS),
    "--workers",
    "2",
    "--snapshot-every",
    "17",
  ];
  const running = await startCoordinator(flags);
  await running.until(({ version }) => version >= 8);
  running.child.kill("SIGKILL");
  await running.exit;
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function auditOf(name: string): Promise<AuditReport> {
  const runDir = join(dir, "runs", name);
  const { spec, manifest } = await loadRun(runDir);
  const ledger = readLedger(join(runDir, "ledger.sqlite"));
  try {
    return await audit({
      ledger,
      snapshotDir: join(runDir, "snapshots"),
      layout: layoutOf(gptTensors(spec.model)),
      trainTokens: manifest.splits.train.tokens,
      context: spec.model.context,
      seed: spec.seed,
      sampling: spec.sampling,
    });
  } finally {
    ledger.close();
  }
}

const program = resolve(import.meta.dirname, "../../../coordinator/auditMain.ts");
const run = (...args: string[]) =>
  spawnSync(process.execPath, [program, "--runs-dir", join(dir, "runs"), ...args], { encoding: "utf8" });

test("a run that was killed is clean as it lies there, journal and all", async () => {
  const report = await auditOf("good");
  expect(report.violation).toBeNull();
  expect(report.rounds).toBeGreaterThanOrEqual(8);
  expect(report.samples).toBe(16 * report.rounds);
});

test("a run that was resumed is clean to its end, over the end of an epoch, and the program says so", async () => {
  cpSync(join(dir, "runs/good"), join(dir, "runs/killed"), { recursive: true });
  const { code, output } = await runCoordinator(flags);
  expect(code, output).toBe(0);
  const report = await auditOf("good");
  expect(report).toMatchObject({ violation: null, rounds: STEPS, samples: 16 * STEPS, tokens: 16 * 16 * STEPS });
  expect(report.epochs).toBeGreaterThanOrEqual(2);
  expect(report.issued).toBe(8 * STEPS + Object.values(report.returned).reduce((sum, units) => sum + units, 0));
  expect(report.snapshot?.version).toBe(STEPS);
  const { status, stdout } = run("--run", "good");
  expect(status, stdout).toBe(0);
  expect(stdout).toContain('run "good": everything is as it must be');
  const json = run("--run", "good", "--json");
  expect(JSON.parse(json.stdout)).toMatchObject({ run: "good", ok: true, rounds: STEPS });
  expect(run("--run", "none").status).toBe(2);
}, 180_000);

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

test("[I4] a journal that was damaged behind the ledger's back: said, trained again, and the same θ at the end", async () => {
  const { length } = await damagedCopy();
  const { code, output } = await runCoordinator(flags.map((flag) => (flag === "good" ? "damaged" : flag)));
  expect(code, output).toBe(0);
  expect(output).toMatch(/θ is recovered at version 4; the rounds after it are trained again/);
  expect(length).toBeGreaterThan(4);
  const report = await auditOf("damaged");
  expect(report).toMatchObject({ violation: null, rounds: STEPS });
  const [damaged, good] = ["damaged", "good"].map((name) => storedRounds(dir, name).map(({ hash }) => hash));
  expect(damaged).toEqual(good);
}, 180_000);

/** The killed run with its journal torn in the fifth record, at a place where the ledger knows of more. */
async function damagedCopy(): Promise<{ length: number }> {
  const runDir = join(dir, "runs/damaged");
  cpSync(join(dir, "runs/killed"), runDir, { recursive: true });
  const { spec } = await loadRun(runDir);
  const bytes = recordBytes(layoutOf(gptTensors(spec.model)).length);
  truncateSync(join(runDir, "snapshots/journal-0.bin"), 4 * bytes + 70);
  return { length: storedRounds(dir, "damaged").length };
}

/** Each a thing that must never happen, done to a copy of the ledger; what the audit must call it. */
const mutations: readonly (readonly [string, string, string, RegExp])[] = [
  ["a round is missing", "DELETE FROM round WHERE version = 5", "versions", /round 6 follows where 5 must be/],
  ["the first round is missing", "DELETE FROM round WHERE version = 1", "versions", /round 2 follows where 1/],
  ["an interval is trained twice", "UPDATE round SET origin = origin - 16 WHERE version >= 7", "intervals", /round 7/],
  ["an interval is left out", "UPDATE round SET origin = origin + 1 WHERE version = 9", "intervals", /round 9 covers 16 samples from 129/], // prettier-ignore
  ["a round claims tokens it did not train", "UPDATE round SET tokens = tokens + 1 WHERE version = 3", "tokens", /round 3 counts 257/], // prettier-ignore
  ["a contribution's tokens are wrong", "UPDATE contribution SET tokens = tokens + 16 WHERE version = 4 AND firstUnit = 2", "tokens", /round 4: units 2 to 2/], // prettier-ignore
  ["two contributions' tokens are wrong and cancel out", "UPDATE contribution SET tokens = tokens + CASE firstUnit WHEN 2 THEN 16 WHEN 3 THEN -16 ELSE 0 END WHERE version = 4", "tokens", /round 4: units 2 to 2/], // prettier-ignore
  ["a unit was never merged", "DELETE FROM contribution WHERE version = 6 AND firstUnit = 3", "units", /round 6: units 4 to 4 come where unit 3/], // prettier-ignore
  ["the last unit was never merged", "DELETE FROM contribution WHERE version = 6 AND firstUnit = 7", "units", /cover 14 of 16/], // prettier-ignore
  ["a unit was merged twice", "UPDATE contribution SET units = 2 WHERE version = 6 AND firstUnit = 3", "tokens", /round 6: units 3 to 4/], // prettier-ignore
  ["a unit more than the round has", "INSERT INTO contribution SELECT version, 8, units, worker, tokens, lossSum, lease, norm FROM contribution WHERE version = 6 AND firstUnit = 7", "units", /cover 18 of 16/], // prettier-ignore
  ["a contribution to a round that never was", "UPDATE contribution SET version = 999 WHERE version = 40", "units", /cover 0 of 16/], // prettier-ignore
  ["a stray contribution", "INSERT INTO contribution SELECT 999, firstUnit, units, worker, tokens, lossSum, lease, norm FROM contribution WHERE version = 6", "units", /round 999/], // prettier-ignore
  ["losses do not add up", "UPDATE round SET lossSum = lossSum * (1 + 1e-12) WHERE version = 12", "loss", /round 12/],
  [
    "a hash was changed",
    "UPDATE round SET hash = '0123456789abcdef' WHERE version = 11",
    "chain",
    /round 12 was taken at/,
  ],
  [
    "a round was taken at another θ",
    "UPDATE round SET baseHash = '0123456789abcdef' WHERE version = 20",
    "chain",
    /round 20/,
  ],
  ["a unit nobody had leased", "UPDATE contribution SET lease = 99999 WHERE version = 8 AND firstUnit = 0", "leases", /merged without a lease/], // prettier-ignore
  ["a unit of somebody else's lease", "UPDATE lease SET worker = 'nobody' WHERE version = 8", "leases", /is not part of lease/], // prettier-ignore
  ["a unit outside its lease", "UPDATE lease SET firstUnit = firstUnit + 1 WHERE version = 8", "leases", /is not part of lease/], // prettier-ignore
  ["a unit both merged and returned", "UPDATE lease SET returned = returned + 1, \"end\" = 'expired' WHERE version = 8", "leases", /were merged/], // prettier-ignore
  ["a unit that is still leased", "UPDATE round SET issued = issued + 1 WHERE version = 8", "leases", /handed out/],
  ["a returned lease that nobody was granted", "INSERT OR REPLACE INTO returned VALUES (8, 'left', 1, 3)", "leases", /accounted for/], // prettier-ignore
  ["an evaluation of a version that never was", "UPDATE evaluation SET version = 41 WHERE version = 40", "evaluations", /version 41/], // prettier-ignore
  ["an evaluation that counts wrong", "UPDATE evaluation SET tokens = tokens - 1 WHERE version = 40", "evaluations", /version 40/], // prettier-ignore
  ["the newest θ is another", "UPDATE round SET hash = '0123456789abcdef' WHERE version = 40", "snapshot", /40-/],
  ["rounds that the files are ahead of", "DELETE FROM round WHERE version > 38; DELETE FROM contribution WHERE version > 38; DELETE FROM lease WHERE version > 38; DELETE FROM returned WHERE version > 38; DELETE FROM evaluation WHERE version > 38", "snapshot", /the ledger ends at 38/], // prettier-ignore
];

test.each(mutations)("%s: found, and named first", async (_, sql, code, message) => {
  rmSync(join(dir, "runs/bad"), { recursive: true, force: true });
  cpSync(join(dir, "runs/good"), join(dir, "runs/bad"), { recursive: true });
  const database = new DatabaseSync(join(dir, "runs/bad/ledger.sqlite"));
  database.exec(sql);
  expect(database.prepare("SELECT total_changes() AS changes").get()).not.toEqual({ changes: 0 });
  database.close();
  const { violation } = await auditOf("bad");
  expect(violation?.code).toBe(code);
  expect(violation?.message).toMatch(message);
});

test("a sample order that repeats a sample is found, whatever the ledger says of the intervals", async () => {
  const runDir = join(dir, "runs/good");
  const { spec, manifest } = await loadRun(runDir);
  const ledger = readLedger(join(runDir, "ledger.sqlite"));
  const subject = { ledger, snapshotDir: join(runDir, "snapshots"), layout: layoutOf(gptTensors(spec.model)), trainTokens: manifest.splits.train.tokens, context: 16, seed: spec.seed, sampling: spec.sampling }; // prettier-ignore
  // Rounds with intervals that overlap, as a coordinator without [I2] would write them; the checks before are passed by.
  const rounds = ledger.rounds().map((round) => ({ ...round, origin: round.version === 4 ? round.origin - 1 : round.origin })); // prettier-ignore
  expect(() => checkSamples(subject, rounds)).toThrow(/round 4: window \d+ for the second time in epoch 0/);
  const shorter = ledger.rounds().filter(({ version }) => version !== 4);
  expect(() => checkSamples(subject, shorter)).toThrow(/epoch 0 has \d+ of its \d+ samples/);
  expect(checkSamples(subject, ledger.rounds()).epochs).toBeGreaterThanOrEqual(2);
  ledger.close();
});

test("files that are not what the ledger says are found: a flipped bit of the newest θ, a torn journal, a damaged ledger", async () => {
  const fresh = (from: string): string => {
    rmSync(join(dir, "runs/bad"), { recursive: true, force: true });
    cpSync(join(dir, "runs", from), join(dir, "runs/bad"), { recursive: true });
    return join(dir, "runs/bad");
  };
  const newest = readdirSync(join(fresh("good"), "snapshots")).find((name) =>
    /^40-[0-9a-f]+\.safetensors$/.test(name),
  )!;
  flip(join(dir, "runs/bad/snapshots", newest), 20_000);
  expect((await auditOf("bad")).violation).toMatchObject({ code: "snapshot", message: expect.stringMatching(/its content has hash/) as unknown }); // prettier-ignore
  expect(run("--run", "bad")).toMatchObject({ status: 1, stdout: expect.stringMatching(/VIOLATION \(snapshot\)/) as unknown }); // prettier-ignore

  const { spec } = await loadRun(fresh("killed"));
  const bytes = recordBytes(layoutOf(gptTensors(spec.model)).length);
  expect((await auditOf("bad")).violation).toBeNull();
  truncateSync(join(dir, "runs/bad/snapshots/journal-0.bin"), 5 * bytes - 1);
  expect((await auditOf("bad")).violation).toMatchObject({ code: "journal", message: expect.stringMatching(/^round 5: record 4 of/) as unknown }); // prettier-ignore
  fresh("killed");
  flip(join(dir, "runs/bad/snapshots/journal-0.bin"), 2 * bytes + 9);
  expect((await auditOf("bad")).violation).toMatchObject({ code: "journal", message: expect.stringMatching(/^round 3: record 2 of/) as unknown }); // prettier-ignore

  fresh("good");
  const database = new DatabaseSync(join(dir, "runs/bad/ledger.sqlite"));
  database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  database.close();
  const ledger = readFileSync(join(dir, "runs/bad/ledger.sqlite"));
  ledger.fill(0xff, 4096 * 3, 4096 * 4);
  writeFileSync(join(dir, "runs/bad/ledger.sqlite"), ledger);
  expect((await auditOf("bad")).violation?.code).toBe("ledger");
});
