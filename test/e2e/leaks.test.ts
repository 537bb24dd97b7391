import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { smallCorpus, smallRun } from "../support/coordinatorProcess.ts";
import { leakRun } from "../support/leakRun.ts";

/** The short form of `npm run soak -- leaks`, which also holds memory to a slope: that takes a thousand rounds to see. */
test("[I5] sixty rounds with a worker dying in each leave no socket, timer, file, worker or lease behind", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-leaks-"));
  try {
    const flags = ["--run", "leaks", ...smallRun(dir, smallCorpus(dir)), "--steps", "1000000", "--evaluate-every", "0"];
    const samples = await leakRun({ flags, deaths: 60, sampleEvery: 20 });
    const [first, last] = [samples[1]!, samples.at(-1)!];
    expect(last.deaths).toBe(60);
    expect(last.workers).toBe(1);
    // One a unit of the round, all of the worker that is there.
    expect(last.leases).toBeLessThanOrEqual(8);
    expect(last.files).toBeLessThanOrEqual(first.files + 2);
    for (const kind of ["TCPSocketWrap", "Timeout", "TCPServerWrap", "MessagePort"]) {
      expect(last.resources[kind] ?? 0, kind).toBeLessThanOrEqual((first.resources[kind] ?? 0) + 1);
    }
    // Sixty connections with a model's buffers each would show.
    expect(last.heapBytes - first.heapBytes).toBeLessThan(3e6);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
