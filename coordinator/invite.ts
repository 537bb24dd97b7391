/** @file `npm run invite`: makes, lists and revokes the invites of a run, whether or not its coordinator runs. */
import { resolve } from "node:path";
import { Command, Option } from "commander";
import { renderUnicodeCompact } from "uqr";
import { OperatorError } from "../shared/operatorError.ts";
import { parseFlags } from "./settings/flags.ts";
import { openInvites } from "./edge/invites.ts";
import type { Invite } from "./edge/invites.ts";
import { runProgram } from "./operatorError.ts";
import { loadRun } from "./settings/resolveRun.ts";
import { whoServes } from "./store/runs.ts";

type Flags = {
  readonly run: string;
  readonly expires: string;
  readonly uses: string;
  readonly name: string;
  readonly url?: string;
  readonly list?: true;
  readonly revoke?: string;
  readonly qr: boolean;
  readonly runsDir: string;
};

const UNITS_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

const YEAR_MS = 365 * 86_400_000;

await runProgram(main);

async function main(): Promise<void> {
  const flags = parse(process.argv.slice(2));
  const runDir = resolve(flags.runsDir, flags.run);
  const { spec } = await loadRun(runDir);
  const expiresInMs = duration(flags.expires);
  const maxUses = uses(flags.uses);
  const base = flags.list || flags.revoke !== undefined ? "" : ((flags.url && origin(flags.url)) ?? runningUrl(runDir));
  const invites = openInvites(runDir, spec.name, Date.now);
  try {
    if (flags.list) {
      const all = invites.list();
      print(all.length === 0 ? `the run "${spec.name}" has no invites` : all.map(describe).join("\n"));
      return;
    }
    if (flags.revoke !== undefined) {
      const workers = invites.revoke(flags.revoke);
      if (workers === null) throw new OperatorError(`--revoke ${flags.revoke}: must be the id of an invite; --list shows them`); // prettier-ignore
      print(`revoked; the ${workers.length} workers that came with it cannot come back once they leave`);
      return;
    }
    const { invite, token } = await invites.create({ name: flags.name, expiresMs: Date.now() + expiresInMs, maxUses });
    const link = `${base}/#token=${token}`;
    if (flags.qr && process.stdout.isTTY) print(`${renderUnicodeCompact(link, { ecc: "L" })}\n`);
    print(link);
    print(`\nor as a Node worker: MANYHANDS_TOKEN=${token} npm run worker -- --url ${base}\n`);
    print(describe(invite));
    if (!spec.invites) print(`note: the run "${spec.name}" takes everybody; start it with --invites to ask for one`);
  } finally {
    invites.close();
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function describe({ id, name, expiresMs, maxUses, uses: used, revokedMs }: Invite): string {
  const until = new Date(expiresMs).toISOString().slice(0, 16).replace("T", " ");
  const state = revokedMs !== null ? "revoked" : expiresMs < Date.now() ? "expired" : `good until ${until} UTC`;
  return `${id}  ${state}, used by ${used} of ${maxUses}${name === "" ? "" : `, for ${name}`}`;
}

function parse(argv: readonly string[]): Flags {
  const program = new Command("npm run invite --")
    .description("Makes a link with which others join a run that was started with --invites.")
    .requiredOption("--run <name>", "which run")
    .option("--expires <time>", "30m, 12h, 7d or 2w", "7d")
    .option("--uses <n>", "workers that may join with it", "1000")
    .option("--name <text>", "for your own list: whom it is for", "")
    .option("--url <origin>", "where the coordinator is reached (default: as it was started)")
    .addOption(new Option("--list", "the invites of the run").conflicts("revoke"))
    .option("--revoke <id>", "makes an invite void")
    .option("--no-qr", "no QR code in the terminal")
    .option("--runs-dir <dir>", "where the runs are", "runs");
  parseFlags(program, argv);
  const flags = program.opts<Flags>();
  if (flags.name.length > 64) throw new OperatorError(`--name ${flags.name}: must be at most 64 characters`);
  return flags;
}

function duration(text: string): number {
  const [, count, unit = ""] = /^(\d{1,6})([mhdw])$/.exec(text) ?? [];
  const ms = Number(count) * (UNITS_MS[unit] ?? NaN);
  if (ms >= 60_000 && ms <= YEAR_MS) return ms;
  throw new OperatorError(`--expires ${text}: must be a number of minutes, hours, days or weeks up to a year, such as 30m, 12h, 7d or 2w`); // prettier-ignore
}

function uses(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= 100_000) return count;
  throw new OperatorError(`--uses ${text}: must be a whole number from 1 to 100000`);
}

function origin(text: string): string {
  if (/^https?:/.test(text) && URL.canParse(text)) return new URL(text).origin;
  throw new OperatorError(`--url ${text}: must be an http:// or https:// address`);
}

function runningUrl(runDir: string): string {
  const url = whoServes(runDir)?.url ?? "";
  if (url !== "") return url;
  throw new OperatorError(`--url is missing, and no coordinator runs for ${runDir}; must be where it will be reached`);
}
