/** @file From settings to a run that can start: its stored state, its corpus, its folder. Writes only what {@link storeRun} writes. */

import { access, constants, mkdir, readdir, readFile, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseManifest, type Manifest } from "../../shared/data/manifest.ts";
import { fileProblem, OperatorError } from "../../shared/operatorError.ts";
import type { Settings } from "./config.ts";
import { loadCorpus, type Corpus } from "../corpus/corpus.ts";
import { prepareApart } from "../corpus/prepareApart.ts";
import { syncFolder, writeDurably } from "../store/durably.ts";
import type { OnCorpusProgress } from "../corpus/encodeCorpus.ts";
import { formatRunFile, parseRunFile, readRunFile } from "./runFile.ts";
import {
  changesOnResume,
  draftSpec,
  overlay,
  processSettings,
  requireConsistent,
  specSettings,
  type DraftSpec,
  type ProcessSettings,
  type RunSpec,
} from "./runSpec.ts";
import type { Given } from "./settings.ts";

export type ResolvedRun = {
  readonly spec: RunSpec;
  readonly process: ProcessSettings;
  readonly corpus: Corpus;
  /** Absolute; exists when the run was resumed. */
  readonly runDir: string;
  /** Whether a run of this name was stored. */
  readonly resumed: boolean;
  /** What differs from the stored run, for people: `steps 1000 → 2000`. */
  readonly changes: readonly string[];
};

/** Files that make a folder below the runs folder a run; the ledger and the snapshots lie beside them. */
const RUN_FILE = "run.yaml";
const MANIFEST_COPY = "manifest.json";
const TOKENIZER_COPY = "tokenizer.json";

/** @throws OperatorError for everything that the person who started this can mend. */
export async function resolveRun(settings: Settings, onProgress: OnCorpusProgress = () => {}): Promise<ResolvedRun> {
  const given = await givenSettings(settings);
  const local = processSettings(given, availableParallelism());
  const { name } = draftSpec(given);
  const runDir = resolve(local.runsDir, name);
  await requireWritable(local.runsDir, given.get("runsDir")?.where ?? "--runs-dir");
  const stored = await readStoredRun(runDir);
  const draft = draftSpec(given, stored?.given);
  const changes = stored ? changesOnResume(draft, draftSpec(stored.given), given) : [];
  requireConsistent(draft, given);
  const corpus = await findOrPrepareCorpus(draft, given, local, stored?.manifest, onProgress);
  if (stored) requireSameCorpus(corpus.manifest, stored.manifest, draft, given);
  const spec: RunSpec = { ...draft, model: { ...draft.model, vocabulary: corpus.manifest.tokenizer.vocabulary } };
  return { spec, process: local, corpus, runDir, resumed: stored !== undefined, changes };
}

/** The flags over what the file says. @throws OperatorError when the file cannot be read. */
export async function givenSettings(settings: Settings): Promise<Given> {
  const file: Given = settings.configFile === undefined ? new Map() : await readRunFile(settings.configFile);
  return overlay(file, absoluteFiles(settings.given));
}

/**
 * Makes the run's folder say what the run is: run.yaml, copies of the corpus manifest and the tokenizer,
 * so that the model can be used when the corpus is gone. run.yaml comes last: a folder without it is no run.
 */
export async function storeRun({ spec, corpus, runDir }: ResolvedRun): Promise<void> {
  const write = async (file: string, content: string | Uint8Array): Promise<void> => {
    await writeDurably(join(runDir, file), [typeof content === "string" ? Buffer.from(content) : content]);
  };
  try {
    await mkdir(runDir, { recursive: true });
    await write(MANIFEST_COPY, `${JSON.stringify(corpus.manifest, undefined, 1)}\n`);
    await write(TOKENIZER_COPY, await readFile(join(corpus.dir, corpus.manifest.tokenizer.file)));
    await write(RUN_FILE, formatRunFile(specSettings(spec), `The run "${spec.name}", as it was started last.`));
    // The run's own name must survive a power cut as its files do.
    for (const folder of [runDir, dirname(runDir)]) await syncFolder(folder);
  } catch (error) {
    const problem = fileProblem(error);
    if (problem === undefined) throw error;
    throw new OperatorError(`--run ${spec.name}: ${runDir}: ${problem}; must be a folder that can be written to`);
  }
}

/** A run that was stored, by its folder. @throws OperatorError when there is none. */
export async function loadRun(runDir: string): Promise<{ spec: RunSpec; manifest: Manifest }> {
  const stored = await readStoredRun(runDir);
  if (!stored) throw new OperatorError(`--run: no run in ${runDir}; must be one of ${await runNames(dirname(runDir))}`);
  const { model, ...draft } = draftSpec(stored.given);
  const spec = { ...draft, model: { ...model, vocabulary: stored.manifest.tokenizer.vocabulary } };
  return { spec, manifest: stored.manifest };
}

/** For messages: the runs that there are. */
export async function runNames(runsDir: string): Promise<string> {
  const names = await readdir(runsDir).catch(() => []);
  return names.length > 0
    ? names.sort((a, b) => a.localeCompare(b)).join(", ")
    : `the runs in ${runsDir}, where there is none yet`;
}

/** File names on the command line are relative to where it was typed; in a stored run they must mean the same later. */
function absoluteFiles(given: Given): Given {
  const absolute = new Map(given);
  for (const path of ["data.text", "data.folder"] as const) {
    const entry = given.get(path);
    if (entry === undefined) continue;
    const value = Array.isArray(entry.value) ? entry.value.map((file) => resolve(String(file))) : resolve(String(entry.value)); // prettier-ignore
    absolute.set(path, { ...entry, value });
  }
  const tokenizer = given.get("data.tokenizer");
  if (tokenizer && String(tokenizer.value).endsWith(".json"))
    absolute.set("data.tokenizer", { ...tokenizer, value: resolve(String(tokenizer.value)) });
  return absolute;
}

type StoredRun = { readonly given: Given; readonly manifest: Manifest };

async function readStoredRun(runDir: string): Promise<StoredRun | undefined> {
  const path = join(runDir, RUN_FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const problem = fileProblem(error);
    if (problem === "no such file or folder") return undefined;
    throw new OperatorError(`${path}: ${problem ?? String(error)}; must be a run's file, or absent`);
  }
  const given = parseRunFile(text, path);
  const manifestPath = join(runDir, MANIFEST_COPY);
  try {
    return { given, manifest: parseManifest(JSON.parse(await readFile(manifestPath, "utf8"))) };
  } catch (error) {
    throw new OperatorError(
      `${manifestPath}: ${fileProblem(error) ?? (error as Error).message}; must be as it was stored`,
    );
  }
}

async function findOrPrepareCorpus(
  { data, model }: DraftSpec,
  given: Given,
  { dataDir }: ProcessSettings,
  stored: Manifest | undefined,
  onProgress: OnCorpusProgress,
): Promise<Corpus> {
  const minimumTokens = model.context + 1;
  if (data.folder !== null) {
    const corpus = await loadCorpus(data.folder);
    const { train, val } = corpus.manifest.splits;
    if (train.tokens < minimumTokens || val.tokens < minimumTokens) {
      throw new OperatorError(
        `${given.get("data.folder")?.where ?? "data.folder"} ${data.folder}: too short, ${train.tokens} tokens to train on and ${val.tokens} to validate on; must be at least ${minimumTokens} of each (the model's context + 1)`,
      );
    }
    return corpus;
  }
  if (stored && !given.has("data.text") && !given.has("data.tokenizer")) {
    // A run that goes on needs its tokens, not the texts they came from, which may have changed since.
    const corpus = await findPrepared(resolve(dataDir), stored);
    if (corpus) return corpus;
  }
  const texts = data.text ?? undefined;
  return prepareApart({ texts, tokenizer: data.tokenizer, dataDir: resolve(dataDir), minimumTokens }, onProgress);
}

async function findPrepared(dataDir: string, manifest: Manifest): Promise<Corpus | undefined> {
  for (const name of await readdir(dataDir).catch(() => [])) {
    const corpus = await loadCorpus(join(dataDir, name)).catch(() => undefined);
    if (corpus && sameCorpus(corpus.manifest, manifest)) return corpus;
  }
  return undefined;
}

function requireSameCorpus(now: Manifest, before: Manifest, { name }: DraftSpec, given: Given): void {
  if (sameCorpus(now, before)) return;
  const entry = given.get("data.text") ?? given.get("data.folder") ?? given.get("data.tokenizer");
  throw new OperatorError(
    `${entry?.where ?? "data"}: the tokens of ${describe(now)} are not those of ${describe(before)}, on which the run "${name}" was started; must stay, or give another --run NAME`,
  );
}

function describe({ name, tokenizer }: Manifest): string {
  return `${name} (${tokenizer.kind}, ${tokenizer.vocabulary})`;
}

function sameCorpus(a: Manifest, b: Manifest): boolean {
  return contentHashes(a) === contentHashes(b);
}

function contentHashes({ tokenizer, splits }: Manifest): string {
  const parts = [tokenizer, ...splits.train.shards, { sha256: "" }, ...splits.val.shards];
  return parts.map(({ sha256 }) => sha256).join();
}

/** The nearest folder that exists must be one that can be written to; the rest is made when there is something to write. */
async function requireWritable(folder: string, where: string): Promise<void> {
  let at = resolve(folder);
  for (;;) {
    try {
      const found = await stat(at);
      if (!found.isDirectory()) throw new OperatorError(`${where} ${folder}: ${at} is not a folder; must be a folder`);
      await access(at, constants.W_OK);
      return;
    } catch (error) {
      if (error instanceof OperatorError) throw error;
      const problem = fileProblem(error);
      if (problem !== "no such file or folder" || dirname(at) === at)
        throw new OperatorError(
          `${where} ${folder}: ${problem ?? String(error)}; must be a folder that can be written to`,
        );
      at = dirname(at);
    }
  }
}
