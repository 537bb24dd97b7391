/**
 * @file [I1] [I2] [I4] One run of real processes, `strict` and `i8`, under hundreds of SIGKILLs: every version has the hash of
 * the undisturbed run, the ledger is whole, and a killed coordinator's successor accepts workers within 5 s.
 *
 *     npm run soak -- sigkill [--seed 1] [--workers 3] [--worker-kills 200] [--coordinator-kills 50]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { smallCorpus, smallRun } from "../support/coordinatorProcess.ts";
import { killRun } from "../support/killRun.ts";

const MAX_BACK_MS = 5000;

export async function run(args: readonly string[]): Promise<boolean> {
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string", default: "1" },
      workers: { type: "string", default: "3" },
      "worker-kills": { type: "string", default: "200" },
      "coordinator-kills": { type: "string", default: "50" },
      "max-pause-ms": { type: "string", default: "2500" },
    },
  });
  const dir = mkdtempSync(join(tmpdir(), "manyhands-sigkill-"));
  const startedMs = performance.now();
  try {
    const report = await killRun({
      dir,
      seed: Number(flags.seed),
      flags: [
        ...smallRun(dir, smallCorpus(dir)),
        ...["--batch", "64", "--unit", "4", "--context", "32", "--codec", "i8", "--strict", "--steps", "1000000"],
        ...["--schedule", "wsd", "--warmup", "10", "--snapshot-every", "50", "--evaluate-every", "100"],
      ],
      workers: Number(flags.workers),
      workerKills: Number(flags["worker-kills"]),
      coordinatorKills: Number(flags["coordinator-kills"]),
      maxPauseMs: Number(flags["max-pause-ms"]),
      log: (line) => process.stdout.write(`${Math.round((performance.now() - startedMs) / 1000)} s: ${line}\n`),
    });
    const sorted = [...report.backMs].sort((a, b) => a - b);
    const [median, longest] = [sorted[sorted.length >> 1] ?? 0, sorted.at(-1) ?? 0];
    const rows: [string, string][] = [
      ["seed", flags.seed],
      ["workers killed", String(report.workerKills)],
      [
        "coordinators killed (of them between journal and ledger)",
        `${report.coordinatorKills} (${report.duringCommit})`,
      ],
      ["versions committed", String(report.version)],
      ["first version whose hash differs from the undisturbed run", String(report.firstDifference ?? "none")],
      ["audit", report.audit.clean ? "clean" : report.audit.report],
      ["coordinator back and accepting, median / max", `${Math.round(median)} / ${Math.round(longest)} ms`],
      ["took", `${Math.round((performance.now() - startedMs) / 1000)} s`],
    ];
    process.stdout.write("\n| what | measured |\n|---|---|\n");
    for (const [what, value] of rows) process.stdout.write(`| ${what} | ${value} |\n`);
    return report.firstDifference === null && report.audit.clean && longest <= MAX_BACK_MS;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
