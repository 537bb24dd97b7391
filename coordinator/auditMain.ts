/** @file `npm run audit`: verifies a finished, stopped or running run from its ledger; exit code 1 when something is wrong. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command } from "commander";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { layoutOf } from "../shared/numerics/layout.ts";
import { OperatorError } from "../shared/operatorError.ts";
import { count } from "./observe/count.ts";
import { audit } from "./store/audit.ts";
import type { AuditReport } from "./store/audit.ts";
import { parseFlags } from "./settings/flags.ts";
import { LEDGER_FILE, readLedger } from "./store/ledger.ts";
import { runProgram } from "./operatorError.ts";
import { loadRun, runNames } from "./settings/resolveRun.ts";

await runProgram(async () => {
  const program = new Command("npm run audit --")
    .description(
      "Verifies a run from its ledger: every sample of each epoch exactly once, nothing lost, nothing twice.",
    )
    .option("--run <name>", "which run")
    .option("--runs-dir <dir>", "where the runs are", "runs")
    .option("--json", "the report as JSON");
  parseFlags(program, process.argv.slice(2));
  const { run, runsDir, json } = program.opts<{ run?: string; runsDir: string; json?: boolean }>();
  if (run === undefined) throw new OperatorError(`--run is missing; must be one of ${await runNames(runsDir)}`);
  const runDir = resolve(runsDir, run);
  const { spec, manifest } = await loadRun(runDir);
  const file = join(runDir, LEDGER_FILE);
  if (!existsSync(file))
    throw new OperatorError(`--run ${run}: there is no ${file} yet; must be a run that was started`);
  const beganMs = performance.now();
  const ledger = readLedger(file);
  const report = await audit({
    ledger,
    snapshotDir: join(runDir, "snapshots"),
    layout: layoutOf(gptTensors(spec.model)),
    trainTokens: manifest.splits.train.tokens,
    context: spec.model.context,
    seed: spec.seed,
    sampling: spec.sampling,
  });
  ledger.close();
  const seconds = (performance.now() - beganMs) / 1000;
  if (json === true)
    process.stdout.write(`${JSON.stringify({ run, ok: report.violation === null, ...report }, undefined, 2)}\n`); // prettier-ignore
  else process.stdout.write(`${describe(run, report, seconds)}\n`);
  if (report.violation !== null) process.exitCode = 1;
});

function describe(run: string, report: AuditReport, seconds: number): string {
  const { rounds, samples, tokens, contributions, epochs, samplesPerEpoch, issued, returned, evaluations, snapshot } = report; // prettier-ignore
  const ends = Object.entries(returned).map(([end, units]) => `${count(units)} ${end}`);
  const back = Object.values(returned).reduce((sum, units) => sum + units, 0);
  const lines = [
    `run "${run}": ${report.violation === null ? "everything is as it must be" : `VIOLATION (${report.violation.code}): ${report.violation.message}`}`,
    `  rounds       ${count(rounds)}, ${count(tokens)} tokens in ${count(contributions)} contributions`,
    `  samples      ${count(samples)}, each once: ${count(epochs)} whole epochs of ${count(samplesPerEpoch)}, and ${count(samples - epochs * samplesPerEpoch)} of the next`,
    `  units leased ${count(issued)} = ${count(issued - back)} merged + ${count(back)} returned${ends.length > 0 ? ` (${ends.join(", ")})` : ""}`,
    `  evaluations  ${count(evaluations)}`,
    `  snapshot     ${snapshot === null ? "none" : `version ${count(snapshot.version)}, hash ${snapshot.hash} (hashed again)`}`,
    ...report.notes.map((note) => `  note         ${note}`),
    `  took         ${seconds.toFixed(2)} s`,
  ];
  // What comes after the violation was not looked at.
  return report.violation === null ? lines.join("\n") : [lines[0], `  looked at    ${count(rounds)} whole rounds before it`].join("\n"); // prettier-ignore
}
