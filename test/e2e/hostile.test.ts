/** @file [I5] [I6] A few thousand hostile frames and some hundred hostile connections against a real run; `npm run soak -- hostile` is the long one. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { smallCorpus, smallRun, startCoordinator } from "../support/coordinatorProcess.ts";
import { connectFlood, fuzz, slowLoris, slowReaders } from "../support/hostile.ts";
import type { Attack } from "../support/hostile.ts";
import { residentBytes } from "../support/inspectMemory.ts";

const SEED = 20_261_122;

/** A few thousand connections' worth of caches and statistics; a leak of what each sends would be more. */
const GROWTH_BYTES = 96 * 2 ** 20;

test("strangers that fuzz, hold, flood and do not read neither stop a run nor make it grow", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-hostile-"));
  const coordinator = await startCoordinator(["--run", "attacked", ...smallRun(dir, smallCorpus(dir)), "--steps", "1000000", "--workers", "1"]); // prettier-ignore
  try {
    const { parameters } = await coordinator.until(({ version }) => version >= 20);
    const answer = JSON.parse(readFileSync(join(dir, "runs/attacked/examination.json"), "utf8")) as Attack["answer"];
    const attack = { url: coordinator.url, answer, payloadBytes: 4 * parameters, seed: SEED };
    const { pid = 0 } = coordinator.child;
    // Once to warm up, once to be compared with it.
    for (const round of ["warm-up", "attack"]) {
      const before = await coordinator.status();
      const residentBefore = residentBytes(pid);
      const over = new AbortController();
      const others = Promise.all([
        slowLoris({ ...attack, signal: over.signal, count: 200 }),
        connectFlood({ ...attack, signal: over.signal, perSecond: 150 }),
        slowReaders({ ...attack, signal: over.signal, count: 8 }),
      ]);
      const { frames } = await fuzz({ ...attack, signal: AbortSignal.timeout(60_000), frames: round === "attack" ? 3000 : 1000, perSecond: 1000 }); // prettier-ignore
      over.abort();
      await others;
      expect(frames).toBeGreaterThanOrEqual(round === "attack" ? 3000 : 1000);
      const after = await coordinator.until(({ version }) => version > before.version + 5);
      if (round === "warm-up") continue;
      expect(residentBytes(pid) - residentBefore).toBeLessThan(GROWTH_BYTES);
      const reached = ["bad-frame", "bad-message", "out-of-order", "rate-limit", "unknown-lease"];
      expect(Object.keys(after.refusals), "the attack got that far").toEqual(expect.arrayContaining(reached));
    }
    // Whoever attacked is gone, and nothing is left of it.
    await coordinator.until(({ workers }) => workers.every(({ name }) => name === "local 1"), 30_000);
    expect(coordinator.output()).not.toMatch(/\n\s+at /);
    coordinator.child.kill("SIGTERM");
    expect(await coordinator.exit, coordinator.output()).toBe(0);
  } finally {
    coordinator.child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
});
