import { closeSync, existsSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { RECORD_HEADER_BYTES, encodeRecordHeader, journalPath, readJournal, recordBytes, writeAll } from "../../../coordinator/store/journal.ts"; // prettier-ignore
import { newestSnapshot, readSnapshot, writeSnapshot } from "../../../coordinator/store/snapshot.ts";
import type { Snapshot, SnapshotName } from "../../../coordinator/store/snapshot.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";
import { randomParams } from "../../support/smallModel.ts";

/** Small enough for every byte of its files to be damaged in turn. */
const layout = layoutOf([{ name: "w", shape: [3, 7] }]);
/** AdamW's t, so that a wrong one shows. */
const STEPS = 1234;

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "manyhands-damage-"));
});
afterEach(() => rm(dir, { recursive: true }));

async function snapshotOf(version: number): Promise<SnapshotName> {
  const [params, master, m, v] = [1, 2, 3, 4].map((seed) => randomParams(layout, 10 * version + seed, 1)) as [Float32Array, Float32Array, Float32Array, Float32Array]; // prettier-ignore
  const hashes = { params: hashParams(params), master: hashParams(master), m: hashParams(m), v: hashParams(v) };
  return writeSnapshot({ dir, version, layout, state: { params, master, m, v, steps: STEPS, hashes } });
}

function sameState(a: Snapshot, b: Snapshot): boolean {
  const arrays = (["params", "master", "m", "v"] as const).every((part) => Buffer.from(a.state[part].buffer, a.state[part].byteOffset, 4 * layout.length).equals(Buffer.from(b.state[part].buffer, b.state[part].byteOffset, 4 * layout.length))); // prettier-ignore
  return arrays && a.state.steps === b.state.steps && a.version === b.version;
}

describe("a snapshot", () => {
  for (const file of ["paramsPath", "optimizerPath"] as const) {
    test(`[I4] any one bit of its ${file === "paramsPath" ? "parameters" : "optimizer"} file: refused, or the state is the same`, async () => {
      const name = await snapshotOf(7);
      const good = await readSnapshot(name, layout);
      const whole = await readFile(name[file]);
      let refused = 0;
      const positions = Array.from({ length: whole.length }, (_, at) => at).filter((at) => at < 1000 || at % 5 === 0);
      for (const at of positions) {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= 1 << (at % 8);
        await writeFile(name[file], damaged);
        const read = await readSnapshot(name, layout).catch(() => null);
        if (read === null) refused += 1;
        else expect(sameState(read, good), `byte ${at} of ${whole.length}, now ${damaged[at]}`).toBe(true);
      }
      // What may change unseen is text for people and padding.
      expect(refused).toBeGreaterThan(0.7 * positions.length);
    });

    test(`cut off anywhere, empty, missing or of another snapshot: ${file} is named, and the one before is taken`, async () => {
      const before = await snapshotOf(5);
      const name = await snapshotOf(7);
      const whole = await readFile(name[file]);
      const lengths = [0, 1, 7, 8, 9, 100, whole.length - 4, whole.length - 1];
      for (let step = 16; step < whole.length; step += 61) lengths.push(step);
      for (const length of lengths) {
        await writeFile(name[file], whole.subarray(0, length));
        const { snapshot, skipped } = await newestSnapshot(dir, layout);
        expect(snapshot?.version, `${length} of ${whole.length} bytes`).toBe(5);
        expect(skipped).toMatchObject([{ path: name.paramsPath, reason: expect.stringMatching(/./) as unknown }]);
      }
      await writeFile(name[file], await readFile(before[file]));
      expect((await newestSnapshot(dir, layout)).snapshot?.version).toBe(5);
      await rm(name[file]);
      const { snapshot, skipped } = await newestSnapshot(dir, layout);
      expect(snapshot?.version).toBe(5);
      // Without its parameters file it is no snapshot at all.
      expect(skipped.length).toBe(file === "paramsPath" ? 0 : 1);
    });
  }

  test("a file that was being written when the machine stopped is not taken for one", async () => {
    await snapshotOf(5);
    const name = await snapshotOf(7);
    await writeFile(`${name.paramsPath}.tmp`, await readFile(name.paramsPath));
    await rm(name.paramsPath);
    expect((await newestSnapshot(dir, layout)).snapshot?.version).toBe(5);
    expect(existsSync(`${name.paramsPath}.tmp`)).toBe(true);
  });
});

describe("a journal", () => {
  const bytes = recordBytes(layout.length);

  /** Records of versions 1, 2, … as the arena writes them. */
  async function write(versions: readonly number[]): Promise<Buffer> {
    const fd = openSync(journalPath(dir, 0), "w");
    for (const [index, version] of versions.entries()) {
      const gradient = randomParams(layout, version, 1);
      const header = { version, step: version, tokens: 768, learningRate: 1e-3, length: layout.length, gradientHash: hashParams(gradient), baseHash: "0123456789abcdef" }; // prettier-ignore
      writeAll(fd, new Uint8Array(gradient.buffer), index * bytes + RECORD_HEADER_BYTES);
      writeAll(fd, encodeRecordHeader(header), index * bytes);
    }
    closeSync(fd);
    return readFile(journalPath(dir, 0));
  }

  async function versionsOf(content: Uint8Array): Promise<number[]> {
    await writeFile(journalPath(dir, 0), content);
    const versions: number[] = [];
    for await (const { version, gradient } of readJournal(journalPath(dir, 0), layout.length)) {
      expect(Buffer.from(gradient.buffer).equals(Buffer.from(randomParams(layout, version, 1).buffer))).toBe(true);
      versions.push(version);
    }
    return versions;
  }

  test("[I4] cut off anywhere, it ends with the last whole record", async () => {
    const whole = await write([1, 2, 3]);
    expect(await versionsOf(whole)).toEqual([1, 2, 3]);
    for (let length = 0; length <= whole.length; length++) {
      // Every length near the edges of records and headers, and some in between.
      const within = length % bytes;
      if (within > RECORD_HEADER_BYTES + 8 && within < bytes - 8 && length % 13 !== 0) continue;
      const records = Math.floor(length / bytes);
      expect((await versionsOf(whole.subarray(0, length))).length, `${length} bytes`).toBe(records);
    }
  });

  test("[I4] any one bit of a record: it ends before that record", async () => {
    const whole = await write([1, 2, 3]);
    let harmless = 0;
    for (let at = bytes; at < 2 * bytes; at++) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1 << (at % 8);
      const versions = await versionsOf(damaged);
      if (versions.length === 3) harmless += 1;
      else expect(versions, `byte ${at - bytes} of the record`).toEqual([1]);
    }
    // The part of a header that holds nothing.
    expect(harmless).toBe(RECORD_HEADER_BYTES - 72);
  });

  test("zeros where a record must be, a version left out, one written twice, another model's: it ends there", async () => {
    const whole = await write([1, 2, 3]);
    expect(await versionsOf(Buffer.concat([whole.subarray(0, 2 * bytes), Buffer.alloc(bytes)]))).toEqual([1, 2]);
    // A gradient whose blocks never reached the disk, though the file's length and its header did.
    const hollow = Buffer.from(whole);
    hollow.fill(0, 2 * bytes + RECORD_HEADER_BYTES);
    expect(await versionsOf(hollow)).toEqual([1, 2]);
    expect(await versionsOf(await write([1, 2, 4]))).toEqual([1, 2]);
    expect(await versionsOf(await write([1, 2, 2, 3]))).toEqual([1, 2]);
    const other: number[] = [];
    for await (const { version } of readJournal(journalPath(dir, 0), layout.length + 256)) other.push(version);
    expect(other).toEqual([]);
  });
});
