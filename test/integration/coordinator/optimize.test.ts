import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execPath } from "node:process";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  openOptimizer,
  type Optimizer,
  type OptimizerOptions,
  type Recovery,
} from "../../../coordinator/optimizer/optimize.ts";
import { journalPath, recordBytes } from "../../../coordinator/store/journal.ts";
import { listSnapshots } from "../../../coordinator/store/snapshot.ts";
import { decodeApply, encoded } from "../../../shared/codec/codec.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { digest } from "../../support/digest.ts";
import { committedRounds, contribute, optimizerOptions, runRound, stepRound } from "../../support/optimizerRun.ts";
import { randomParams, smallLayout } from "../../support/smallModel.ts";

let dir = "";
const open: Optimizer[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "optimize-"));
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((optimizer) => optimizer.close()));
  await rm(dir, { recursive: true });
});

async function start(
  until: number,
  options: Partial<OptimizerOptions> = {},
): Promise<{ optimizer: Optimizer; recovery: Recovery }> {
  const started = await openOptimizer({ ...optimizerOptions, dir, until, ...options });
  open.push(started.optimizer);
  return started;
}

async function stop(optimizer: Optimizer): Promise<void> {
  open.splice(open.indexOf(optimizer), 1);
  await optimizer.close();
}

async function rounds(optimizer: Optimizer, count: number): Promise<string[]> {
  const hashes: string[] = [];
  for (let i = 0; i < count; i++) hashes.push(await runRound(optimizer));
  return hashes;
}

/** Hashes of versions 1 to `count` of an undisturbed run without snapshots. */
async function undisturbed(count: number): Promise<string[]> {
  const other = await mkdtemp(join(tmpdir(), "undisturbed-"));
  const { optimizer } = await openOptimizer({ ...optimizerOptions, dir: other, until: 0, threads: 1 });
  const hashes = await rounds(optimizer, count);
  await optimizer.close();
  await rm(other, { recursive: true });
  return hashes;
}

test("[I3] while a step is on its way to the disk, the θ that is still the published one can be had", async () => {
  const sync = Promise.withResolvers<void>();
  const { optimizer } = await start(0, { sync: true, syncFile: () => sync.promise });
  const [before, params] = [optimizer.hash(), optimizer.params().slice()];
  await contribute(optimizer);
  const stepping = stepRound(optimizer);
  while (optimizer.hash() === before) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(digest(optimizer.paramsOf(before)!)).toEqual(digest(params));
  sync.resolve();
  const after = await stepping;
  expect(hashParams(optimizer.paramsOf(after)!)).toBe(after);
  await runRound(optimizer);
  expect(optimizer.paramsOf(before)).toBeNull();
});

test("[I1] the order of arrival does not show in the update", async () => {
  const payloads = [0, 1, 2].map((unit) => encoded("f32", randomParams(smallLayout, 50 + unit, 1)));
  const results = [];
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    // prettier-ignore
    const { optimizer } = await start(0, { codec: "f32", dir: join(dir, order.join("")) });
    // Not awaited one by one: checks run in the threads while others arrive.
    const received = order.map((unit) => optimizer.receive({ firstUnit: unit, units: 1, payload: payloads[unit]! }));
    expect((await Promise.all(received)).every(({ ok }) => ok)).toBe(true);
    results.push(digest(await optimizer.step({ version: 1, tokens: 3, learningRate: 1e-3 })));
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
});

test("[I1] folded units give the update of separate ones to rounding", async () => {
  const parts = [0, 1, 2].map((unit) => randomParams(smallLayout, 50 + unit, 1));
  const { optimizer: separate } = await start(0, { codec: "f32", dir: join(dir, "a") });
  const { optimizer: folded } = await start(0, { codec: "f32", dir: join(dir, "b") });
  for (const unit of [0, 1, 2])
    await separate.receive({ firstUnit: unit, units: 1, payload: encoded("f32", parts[unit]!) });
  const sum = parts[0]!.map((x, i) => x + parts[1]![i]!);
  await folded.receive({ firstUnit: 2, units: 1, payload: encoded("f32", parts[2]!) });
  await folded.receive({ firstUnit: 0, units: 2, payload: encoded("f32", sum) });
  const norms = [];
  for (const each of [separate, folded])
    norms.push((await each.step({ version: 1, tokens: 3, learningRate: 1e-3 })).gradientNorm);
  expect(norms[1]! / norms[0]!).toBeCloseTo(1, 7);
});

test("[I6] contributions that are wrong, double or late are refused with a reason, and the round goes on", async () => {
  const { optimizer } = await start(0);
  const payload = encoded("i8", randomParams(smallLayout, 9, 1));
  const bad = payload.slice().fill(0x80, payload.length - 5);
  expect(await optimizer.receive({ firstUnit: 0, units: 1, payload: bad })).toMatchObject({ problem: "quant" });
  expect(await optimizer.receive({ firstUnit: 0, units: 1, payload: payload.subarray(1) })).toMatchObject({ problem: "length" }); // prettier-ignore
  expect(await optimizer.receive({ firstUnit: 2, units: 2, payload })).toMatchObject({ problem: "out-of-range" });
  expect(await optimizer.receive({ firstUnit: 1, units: 1, payload })).toMatchObject({ ok: true });
  expect(await optimizer.receive({ firstUnit: 1, units: 1, payload })).toMatchObject({
    problem: "overlap",
    reason: "units 1 to 1 are already in the round, in part or as a whole",
  });
  await expect(optimizer.step({ version: 1, tokens: 1, learningRate: 1e-3 })).rejects.toThrow("units up to 0 of 3");
  await optimizer.receive({ firstUnit: 0, units: 1, payload });
  await optimizer.receive({ firstUnit: 2, units: 1, payload });
  await expect(optimizer.step({ version: 5, tokens: 1, learningRate: 1e-3 })).rejects.toThrow(
    "to version 5, θ is at 0",
  );
  const late = optimizer.receive({ firstUnit: 0, units: 1, payload });
  const step = optimizer.step({ version: 1, tokens: 9, learningRate: 1e-3 });
  expect(await late).toMatchObject({ ok: false });
  expect(await step).toMatchObject({ applied: true });
});

test("[I4] a restart takes the journalled steps again, to the same bits, and publishes the same updates", async () => {
  const expected = await undisturbed(6);
  const { optimizer } = await start(0);
  await rounds(optimizer, 4);
  await stop(optimizer);
  const worker = randomParams(smallLayout, 1, 0.02);
  const seen: string[] = [];
  const again = await start(4, {
    threads: 3,
    onReplayed({ hash, update }) {
      decodeApply("i8", update, worker);
      expect(hashParams(worker)).toBe(hash);
      seen.push(hash);
    },
  });
  expect(again.recovery).toEqual({ snapshot: null, replayed: 4, skipped: [] });
  expect(seen).toEqual(expected.slice(0, 4));
  expect([...seen, ...(await rounds(again.optimizer, 2))]).toEqual(expected);
});

test("[I4] with a snapshot, only the steps after it are taken again", async () => {
  const expected = await undisturbed(6);
  const { optimizer } = await start(0);
  await rounds(optimizer, 3);
  await optimizer.snapshot();
  expect(optimizer.journal()).toEqual({ records: 0, bytes: 0 });
  await rounds(optimizer, 2);
  await stop(optimizer);
  const again = await start(5);
  expect(again.recovery).toEqual({ snapshot: 3, replayed: 2, skipped: [] });
  expect(again.optimizer.hash()).toBe(expected[4]);
  expect(await rounds(again.optimizer, 1)).toEqual(expected.slice(5));
});

test("[I4] training goes on while a snapshot is written, and the snapshot is of the version it was asked for", async () => {
  const expected = await undisturbed(5);
  const { optimizer } = await start(0);
  await rounds(optimizer, 2);
  await contribute(optimizer);
  // In one breath: the step must go to the journal of a snapshot whose file is only being opened.
  const [writing, stepping] = [optimizer.snapshot(), stepRound(optimizer)];
  await stepping;
  await rounds(optimizer, 2);
  expect(await writing).toMatchObject({ version: 2, hash: expected[1] });
  await stop(optimizer);
  const again = await start(5);
  expect(again.recovery).toEqual({ snapshot: 2, replayed: 3, skipped: [] });
  expect(again.optimizer.hash()).toBe(expected[4]);
});

test("[I2] a step that was journalled but never committed is forgotten, also by the restart after", async () => {
  const expected = await undisturbed(4);
  const { optimizer } = await start(0);
  await rounds(optimizer, 4);
  await stop(optimizer);
  const again = await start(3);
  expect(again.optimizer.hash()).toBe(expected[2]);
  expect(again.optimizer.journal().records).toBe(3);
  await stop(again.optimizer);
  const third = await start(4);
  expect(third.optimizer.version()).toBe(3);
  expect(await rounds(third.optimizer, 1)).toEqual([expected[3]]);
});

test("[I4] a step is not done before its record is on the disk; when the sync fails, the record is written anew", async () => {
  const expected = await undisturbed(3);
  const waiting: PromiseWithResolvers<void>[] = [];
  const options: Partial<OptimizerOptions> = {
    sync: true,
    syncFile: () => {
      const sync = Promise.withResolvers<void>();
      waiting.push(sync);
      return sync.promise;
    },
  };
  const { optimizer } = await start(0, options);
  const bytes = recordBytes(smallLayout.length);
  let done: string[] = [];
  for (let version = 1; version <= 3; version++) {
    await contribute(optimizer);
    const ask = async (): Promise<string> => {
      const step = await optimizer.step({ version, tokens: 700 + version, learningRate: 1e-3 / version });
      return step.applied ? step.hash : "not applied";
    };
    for (let attempt = 1; attempt <= 3; attempt++) {
      const step = ask();
      let settled = false;
      step.then(() => (settled = true), () => (settled = true)); // prettier-ignore
      while (waiting.length === 0) await new Promise((next) => setImmediate(next));
      // AdamW has had its time; the disk has not.
      await new Promise((next) => setTimeout(next, 20));
      expect(settled).toBe(false);
      if (attempt < 3) {
        // What a failed sync may mean: the blocks are not there.
        const content = await readFile(journalPath(dir, 0));
        await writeFile(journalPath(dir, 0), content.fill(0, (version - 1) * bytes));
        waiting.shift()!.reject(new Error("ENOSPC: no space left on device, fdatasync"));
        await expect(step).rejects.toThrow("ENOSPC");
        expect(optimizer.version()).toBe(version);
        await expect(optimizer.snapshot()).rejects.toThrow("is not on the disk");
      } else {
        waiting.shift()!.resolve();
        done = [...done, await step];
      }
    }
  }
  expect(done).toEqual(expected);
  await stop(optimizer);
  const again = await start(3);
  expect(again.recovery).toEqual({ snapshot: null, replayed: 3, skipped: [] });
  expect(again.optimizer.hash()).toBe(expected[2]);
});

test("a torn or damaged last record is ignored", async () => {
  const expected = await undisturbed(3);
  const { optimizer } = await start(0);
  await rounds(optimizer, 3);
  await stop(optimizer);
  const path = journalPath(dir, 0);
  const whole = await readFile(path);
  expect(whole.length).toBe(3 * recordBytes(smallLayout.length));
  for (const damage of [
    () => truncate(path, whole.length - 1),
    () => truncate(path, 2 * recordBytes(smallLayout.length) + 50),
    () => writeFile(path, whole.fill(1, whole.length - 9, whole.length - 8)),
  ]) {
    await writeFile(path, whole);
    await damage();
    const again = await start(3);
    expect(again.optimizer.version()).toBe(2);
    expect(again.optimizer.hash()).toBe(expected[1]);
    expect(await rounds(again.optimizer, 1)).toEqual([expected[2]]);
    await stop(again.optimizer);
  }
});

test("a corrupt newest snapshot is named and passed over, and no committed round is lost", async () => {
  const expected = await undisturbed(7);
  const { optimizer } = await start(0);
  for (let i = 0; i < 3; i++) {
    await rounds(optimizer, 2);
    await optimizer.snapshot();
  }
  await rounds(optimizer, 1);
  await stop(optimizer);
  const [newest] = await listSnapshots(dir);
  const whole = await readFile(newest!.optimizerPath);
  for (const [path, damage, reason] of [
    [newest!.optimizerPath, () => truncate(newest!.optimizerPath, whole.length - 100), "ends at byte"],
    [
      newest!.optimizerPath,
      () =>
        writeFile(
          newest!.optimizerPath,
          whole.map((byte, i) => (i === whole.length - 3 ? byte ^ 1 : byte)),
        ),
      "v has hash",
    ],
    [newest!.optimizerPath, () => rm(newest!.optimizerPath), "ENOENT"],
    [newest!.paramsPath, () => truncate(newest!.paramsPath, 5), "file of 5 bytes"],
  ] as const) {
    // prettier-ignore
    await copyFile(path, `${path}.good`);
    await damage();
    const again = await start(7);
    expect(again.recovery).toMatchObject({ snapshot: 4, replayed: 3, skipped: [{ path: newest!.paramsPath }] });
    expect(again.recovery.skipped[0]!.reason).toContain(reason);
    expect(again.optimizer.hash()).toBe(expected[6]);
    await stop(again.optimizer);
    await copyFile(`${path}.good`, path);
  }
});

test("[I5] files of two snapshots stay, whatever the number of rounds, and of the others θ at each doubling", async () => {
  const { optimizer } = await start(0);
  for (let i = 0; i < 4; i++) {
    await rounds(optimizer, 2);
    await optimizer.snapshot();
  }
  const files = (await readdir(dir)).map((name) => name.replace(/-[0-9a-f]{16}/, ""));
  expect(files.sort()).toEqual([
    "2.safetensors",
    "4.safetensors",
    "6.optimizer.safetensors",
    "6.safetensors",
    "8.optimizer.safetensors",
    "8.safetensors",
    "journal-6.bin",
    "journal-8.bin",
  ]);
});

test("a snapshot newer than the ledger is set aside, not trained on and not removed", async () => {
  const expected = await undisturbed(3);
  const { optimizer } = await start(0, { keep: 5 });
  await rounds(optimizer, 2);
  await optimizer.snapshot();
  await rounds(optimizer, 2);
  await optimizer.snapshot();
  await stop(optimizer);
  const again = await start(3);
  expect(again.recovery).toMatchObject({ snapshot: 2, replayed: 1 });
  expect(again.recovery.skipped[0]!.reason).toContain("newer than version 3");
  expect(again.optimizer.hash()).toBe(expected[2]);
  expect((await readdir(dir)).filter((name) => name.endsWith(".ahead")).length).toBe(2);
});

test("[I4] killed with SIGKILL again and again, the run ends with the bits of the undisturbed one", async () => {
  const total = 20;
  const expected = await undisturbed(total);
  const ledger = join(dir, "ledger.txt");
  const script = join(import.meta.dirname, "../../support/optimizerRun.ts");
  let kills = 0;
  for (let turn = 1; (committedRounds(ledger).at(-1)?.version ?? 0) < total; turn++) {
    const child = spawn(execPath, [script, join(dir, "run"), ledger, String(total)], { stdio: ["ignore", "pipe", "inherit"] }); // prettier-ignore
    let rest = 2 + (turn % 3);
    for await (const _ of createInterface(child.stdout)) {
      rest -= 1;
      // In the middle of the next round's work, or of a snapshot.
      if (rest === 0 && child.kill("SIGKILL")) kills += 1;
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
  expect(kills).toBeGreaterThan(3);
  expect(committedRounds(ledger).map(({ hash }) => hash)).toEqual(expected);
  const { optimizer } = await start(total, { dir: join(dir, "run") });
  expect(optimizer.hash()).toBe(expected.at(-1));
});
