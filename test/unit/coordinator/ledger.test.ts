import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openLedger } from "../../../coordinator/store/ledger.ts";

test("a ban outlives the process, keeps its first reason, and can be lifted", () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-ledger-"));
  try {
    const file = join(dir, "ledger.sqlite");
    const first = openLedger(file);
    expect(first.isBanned("w1")).toBe(false);
    first.ban("w1", 5, "garbage");
    first.ban("w1", 6, "again");
    first.close();
    const second = openLedger(file);
    expect([second.isBanned("w1"), second.isBanned("w2")]).toEqual([true, false]);
    expect(second.bans()).toEqual([{ worker: "w1", atMs: 5, reason: "garbage" }]);
    expect([second.liftBan("w1"), second.liftBan("w1"), second.isBanned("w1")]).toEqual([true, false, false]);
    second.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
