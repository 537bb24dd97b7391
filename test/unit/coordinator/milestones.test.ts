import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hasSnapshot, pruneSnapshots } from "../../../coordinator/store/snapshot.ts";

test("of old snapshots one stays for each doubling of the version, without what only a restart needs", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-milestones-"));
  try {
    const hash = "0123456789abcdef";
    // As a run does it: one snapshot more, then pruned.
    for (let version = 0; version <= 2000; version += 10) {
      writeFileSync(join(dir, `${version}-${hash}.safetensors`), "");
      writeFileSync(join(dir, `${version}-${hash}.optimizer.safetensors`), "");
      await pruneSnapshots(dir, 2);
    }
    const versions = (suffix: string): number[] =>
      readdirSync(dir)
        .filter((name) => name.endsWith(`${hash}${suffix}`))
        .map((name) => Number(name.split("-")[0]))
        .sort((a, b) => a - b);
    expect(versions(".safetensors")).toEqual([0, 10, 20, 40, 70, 130, 260, 520, 1030, 1990, 2000]);
    expect(versions(".optimizer.safetensors")).toEqual([1990, 2000]);
    expect(await hasSnapshot(dir, `0-${hash}.safetensors`)).toBe(true);
    for (const name of [`2000-${hash}.optimizer.safetensors`, `../x`, `30-${hash}.safetensors`]) {
      expect(await hasSnapshot(dir, name), name).toBe(false);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});
