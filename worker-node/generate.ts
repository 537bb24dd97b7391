/** @file `npm run generate`: a run's newest snapshot continues a prompt, on stdout, as it is written. */

import { randomInt } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { readParams } from "../shared/codec/paramsFile.ts";
import { readSafetensors } from "../shared/codec/safetensors.ts";
import { generateText } from "../shared/engine/generate.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { parseModelSpec } from "../shared/model/parseSpec.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import { hashParams } from "../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../shared/numerics/layout.ts";
import { fileProblem, OperatorError } from "../shared/operatorError.ts";
import { readTokenizerJson } from "../shared/tokenizer/tokenizerJson.ts";
import { createNodeEngine, enginePreferences, type EnginePreference } from "./engine.ts";

type Flags = {
  readonly run?: string;
  readonly runsDir: string;
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP: number;
  readonly seed?: number;
  readonly engine: EnginePreference;
  readonly threads: number;
};

try {
  await main(parseFlags(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 2;
}

async function main(flags: Flags): Promise<void> {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on("error", () => process.exit(0));
  const runDir = join(flags.runsDir, flags.run ?? (await onlyRun(flags.runsDir)));
  const { spec, layout, params } = await newestParams(runDir, flags);
  const tokenizer = readTokenizerJson(JSON.parse(await readFile(join(runDir, "tokenizer.json"), "utf8")));
  try {
    tokenizer.encode(flags.prompt);
  } catch (error) {
    throw new OperatorError(
      `--prompt ${flags.prompt}: ${(error as Error).message}; must be characters of the training text`,
    );
  }
  const preference = flags.engine;
  const { engine, fallbacks } = await createNodeEngine({ spec, layout, threads: flags.threads, preference });
  for (const { backend, reason } of fallbacks)
    process.stderr.write(`${backend} not used: ${reason}; using ${engine.backend}\n`);
  try {
    await engine.load(params);
    process.stdout.write(flags.prompt);
    const { prompt, tokens, temperature, topK = spec.vocabulary, topP, seed = randomInt(2 ** 31) } = flags;
    const text = generateText({ engine, spec, tokenizer, prompt, tokens, temperature, topK, topP, seed });
    for await (const piece of text) process.stdout.write(piece);
    process.stdout.write("\n");
  } finally {
    await engine.dispose();
  }
}

type Loaded = { readonly spec: ModelSpec; readonly layout: ParamLayout; readonly params: Float32Array };

/** θ of the newest snapshot that is whole. A running coordinator removes old ones, so one may vanish while it is read. */
async function newestParams(runDir: string, { run, runsDir }: Flags): Promise<Loaded> {
  const dir = join(runDir, "snapshots");
  const files = await readdir(dir).catch(async (error: unknown) => {
    if (fileProblem(error) === undefined) throw error;
    throw new OperatorError(`--run ${run}: no snapshots in ${dir}; must be one of ${await runNames(runsDir)}`);
  });
  const snapshots = files
    .flatMap((file) => {
      const [, version, hash] = /^(\d{1,15})-([0-9a-f]{16})\.safetensors$/.exec(file) ?? [];
      return version === undefined || hash === undefined ? [] : [{ file, version: Number(version), hash }];
    })
    .sort((a, b) => b.version - a.version);
  const problems: string[] = [];
  for (const { file, hash } of snapshots) {
    try {
      const bytes = await readFile(join(dir, file));
      const spec = parseModelSpec(readSafetensors(bytes).metadata["model"]);
      const layout = layoutOf(gptTensors(spec));
      const params = new Float32Array(layout.length);
      readParams(bytes, layout, params);
      if (hashParams(params) !== hash) throw new Error("the parameters are not those of its name");
      if (problems.length > 0) process.stderr.write(`using ${file}, because ${problems.join("; ")}\n`);
      return { spec, layout, params };
    } catch (error) {
      problems.push(`${file}: ${fileProblem(error) ?? (error as Error).message}`);
    }
  }
  throw new OperatorError(
    problems.length > 0
      ? `${dir}: ${problems.join("; ")}; must be a run's snapshots`
      : `${dir}: there is no snapshot yet; must be a run that has reached its first one`,
  );
}

async function onlyRun(runsDir: string): Promise<string> {
  const runs = await readdir(runsDir).catch(() => []);
  const [only] = runs;
  if (only !== undefined && runs.length === 1) return only;
  throw new OperatorError(`--run is missing; must be one of ${await runNames(runsDir)}`);
}

async function runNames(runsDir: string): Promise<string> {
  const runs = await readdir(runsDir).catch(() => []);
  return runs.length > 0
    ? runs.sort((a, b) => a.localeCompare(b)).join(", ")
    : `the runs in ${runsDir}, where there is none`;
}

function parseFlags(argv: readonly string[]): Flags {
  const program = new Command("npm run generate --")
    .description("Continues a text with a trained model.")
    .option("--run <name>", "which run (default: the only one there is)")
    .option("--prompt <text>", "what to continue; empty: the beginning of a document", "")
    .option("--tokens <n>", "at most so many", whole(1, 1_000_000), 200)
    .option("--temperature <x>", "0: always the likeliest token; 1: as the model thinks", temperature, 0.8)
    .option("--top-k <n>", "only the k likeliest tokens (default: all)", whole(1, 1_000_000))
    .option("--top-p <p>", "of these only the likeliest that together reach p", nucleus, 1)
    .option(
      "--seed <n>",
      "the same seed, the same text (default: another each time)",
      whole(0, Number.MAX_SAFE_INTEGER),
    )
    .addOption(new Option("--engine <name>", "what computes").choices(enginePreferences).default("auto"))
    .option("--threads <n>", "threads for computing", whole(1, 1024), availableParallelism())
    .option("--runs-dir <dir>", "where the runs are", "runs")
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) process.exit(0);
    throw new OperatorError(`${error.message.replace(/^error: /, "")}; ${program.name()} --help lists the flags`);
  }
  return program.opts<Flags>();
}

function whole(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}`);
    return value;
  };
}

function temperature(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 100))
    throw new InvalidArgumentError("It must be a number from 0 to 100");
  return value;
}

function nucleus(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError("It must be a number above 0, at most 1");
  return value;
}
