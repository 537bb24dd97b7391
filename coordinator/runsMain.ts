/** @file `npm run runs`: list, show, pause, resume and delete the runs in a folder, also while they are being served. */
import { join, resolve } from "node:path";
import { Command } from "commander";
import { OperatorError } from "../shared/operatorError.ts";
import { count } from "./observe/count.ts";
import { parseFlags } from "./settings/flags.ts";
import { runProgram } from "./operatorError.ts";
import { runNames } from "./settings/resolveRun.ts";
import { deleteRun, listRuns, setPause, showRun } from "./store/runs.ts";
import type { RunDetails, RunSummary } from "./store/runs.ts";

/** More would push everything else off the screen; `--json` has them all. */
const WORKERS_SHOWN = 10;

await runProgram(async () => {
  let chosen: (() => Promise<void>) | null = null;
  const program = new Command("npm run runs --").description(
    "The runs in a folder, and the operator's controls over them.",
  );
  program.option("--runs-dir <dir>", "where the runs are", "runs");
  const runsDir = (): string => resolve(program.opts<{ runsDir: string }>().runsDir);

  program
    .command("list")
    .description("all runs, one a line")
    .option("--json", "as JSON")
    .action(({ json }: { json?: boolean }) => {
      chosen = async () => {
        const runs = await listRuns(runsDir());
        const rows = runs.map(({ name, state, url, reason, version, steps, tokens, trainLoss, validationLoss, lastRoundMs }): RunSummary => ({ name, state, url, reason, version, steps, tokens, trainLoss, validationLoss, lastRoundMs })); // prettier-ignore
        print(json === true ? JSON.stringify(rows, undefined, 2) : table(runs, runsDir()));
      };
    });
  program
    .command("show <name>")
    .description("one run in detail")
    .option("--json", "as JSON")
    .action((name: string, { json }: { json?: boolean }) => {
      chosen = async () => {
        const run = await showRun(await runDirOf(runsDir(), name));
        print(json === true ? JSON.stringify(run, undefined, 2) : details(run));
      };
    });
  program
    .command("pause <name>")
    .description("no more leases until it is resumed; what is in flight is taken in")
    .option("--reason <text>", "told to everybody who works on it", "by the operator")
    .action((name: string, { reason }: { reason: string }) => {
      chosen = async () => print(await setPause(await runDirOf(runsDir(), name), reason));
    });
  program
    .command("resume <name>")
    .description("ends the operator's pause")
    .action((name: string) => {
      chosen = async () => print(await setPause(await runDirOf(runsDir(), name), null));
    });
  program
    .command("delete <name>")
    .description("removes a run that is not being served: its ledger, snapshots, everything")
    .option("--yes", "really")
    .action((name: string, { yes }: { yes?: boolean }) => {
      chosen = async () => {
        const runDir = await runDirOf(runsDir(), name);
        const { version, steps } = await showRun(runDir);
        if (yes !== true) {
          throw new OperatorError(`delete ${name}: would remove ${runDir}, at step ${version} of ${steps}, for good; must be given --yes`); // prettier-ignore
        }
        await deleteRun(runDir);
        print(`run "${name}" is deleted`);
      };
    });
  // A command of its own complains as the program does.
  for (const command of program.commands) command.copyInheritedSettings(program);
  parseFlags(program, process.argv.slice(2));
  await (chosen as (() => Promise<void>) | null)?.();
});

/** A name is one folder below: never a path that leads elsewhere. */
async function runDirOf(runsDir: string, name: string): Promise<string> {
  if (!/^[\w.-]+$/.test(name) || /^\.+$/.test(name)) {
    throw new OperatorError(`run "${name}": must be one of ${await runNames(runsDir)}`);
  }
  return join(runsDir, name);
}

function table(runs: readonly RunSummary[], runsDir: string): string {
  if (runs.length === 0) return `no runs in ${runsDir}`;
  const rows = runs.map((run) => [
    run.name,
    run.state,
    `${count(run.version)}/${count(run.steps)}`,
    loss(run.trainLoss),
    loss(run.validationLoss),
    count(run.tokens),
    age(run.lastRoundMs),
    run.url !== null && run.reason !== "" ? `${run.url}  ${run.reason}` : (run.url ?? run.reason),
  ]);
  const lines = [["run", "state", "step", "train", "val", "tokens", "last round", ""], ...rows];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function details(run: RunDetails): string {
  const { spec, lastRound, lastEvaluation, workers, snapshots, events } = run;
  const { model } = spec;
  const state = [run.state, run.url, run.reason].filter((part) => part !== null && part !== "").join("  ");
  const lines: [string, string][] = [
    ["run", run.name],
    ["state", state],
    ["step", `${count(run.version)} of ${count(run.steps)}, ${count(run.tokens)} tokens, last round ${age(run.lastRoundMs)}`], // prettier-ignore
    ["model", `${model.layers} layers, ${model.heads} heads, width ${model.width}, context ${model.context}, vocabulary ${model.vocabulary}`], // prettier-ignore
    ["round", `${spec.batch} samples in units of ${spec.unit}, ${spec.codec}${spec.strict ? ", strict" : ""}`],
    ["train loss", lastRound === null ? "–" : `${loss(run.trainLoss)} at step ${count(lastRound.version)}, hash ${lastRound.hash}`], // prettier-ignore
    ["val loss", lastEvaluation === null ? "–" : `${loss(run.validationLoss)} at step ${count(lastEvaluation.version)}, ${count(lastEvaluation.samples)} samples`], // prettier-ignore
    ["snapshots", snapshots.map(({ version }) => count(version)).join(", ") || "none"],
  ];
  for (const [index, { name, kind, backend, id, lastSeenMs }] of workers.slice(0, WORKERS_SHOWN).entries()) {
    const label = index === 0 ? `workers (${workers.length})` : "";
    lines.push([label, `${name} (${id}), ${kind}${backend === null ? "" : `, ${backend}`}, seen ${age(lastSeenMs)}`]);
  }
  for (const [index, { atMs, code, text }] of events.entries()) {
    lines.push([index === 0 ? "events" : "", `${new Date(atMs).toISOString().slice(0, 19)}Z  ${code}  ${text}`]);
  }
  return lines.map(([label, text]) => `${label.padEnd(14)}${text}`).join("\n");
}

function loss(value: number | null): string {
  return value === null ? "–" : value.toFixed(4);
}

function age(atMs: number | null): string {
  if (atMs === null) return "–";
  const seconds = Math.max(0, Math.round((Date.now() - atMs) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
