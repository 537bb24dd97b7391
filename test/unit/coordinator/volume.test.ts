import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { OperatorError } from "../../../coordinator/operatorError.ts";
import { requireVolume } from "../../../coordinator/settings/volume.ts";

test("outside an image any folder will do", () => {
  expect(() => requireVolume(undefined)).not.toThrow();
});

test("a folder on which nothing is mounted is named with the flag that mounts something", () => {
  const folder = mkdtempSync(join(tmpdir(), "manyhands-volume-"));
  try {
    for (const path of [folder, join(folder, "absent")]) {
      expect(() => requireVolume(path)).toThrow(OperatorError);
      expect(() => requireVolume(path)).toThrow(`${path}: no volume is mounted there`);
      expect(() => requireVolume(path)).toThrow(`mount one: docker run -v manyhands:${path}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
