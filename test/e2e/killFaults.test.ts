import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { smallCorpus, smallRun } from "../support/coordinatorProcess.ts";
import { killRun } from "../support/killRun.ts";

/** The short form of `npm run soak -- sigkill`, which also holds the coordinator to 5 s. */
test("[I4] [I1] [I2] after 10 killed workers and 3 killed coordinators θ is the undisturbed run's, version by version", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-kill-"));
  try {
    const report = await killRun({
      dir,
      seed: 7,
      flags: [
        ...smallRun(dir, smallCorpus(dir)),
        ...["--codec", "i8", "--strict", "--steps", "1000000", "--schedule", "wsd", "--warmup", "10"],
        ...["--batch", "32", "--unit", "4", "--context", "32", "--snapshot-every", "20", "--evaluate-every", "50"],
      ],
      workers: 2,
      workerKills: 10,
      coordinatorKills: 3,
      maxPauseMs: 1000,
    });
    expect(report.firstDifference).toBeNull();
    expect(report.audit.clean, report.audit.report).toBe(true);
    expect(report.version).toBeGreaterThan(3);
    expect(report.backMs).toHaveLength(3);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
