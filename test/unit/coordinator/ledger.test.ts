import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openLedger } from "../../../coordinator/store/ledger.ts";

test("a ban outlives the process, and can be lifted", () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-ledger-"));
  try {
    const file = join(dir, "ledger.sqlite");
    const first = openLedger(file);
    expect(first.bans()).toEqual([]);
    const ban = { worker: "w1", atMs: 5, reason: "garbage" };
    first.rememberBan("w1", ban);
    first.close();
    const second = openLedger(file);
    expect(second.bans()).toEqual([ban]);
    second.rememberBan("w1", null);
    second.rememberBan("w1", null);
    expect(second.bans()).toEqual([]);
    second.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
