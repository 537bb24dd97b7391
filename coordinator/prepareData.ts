/** @file `npm run prepare-data`: text or token files to a folder of shards that `npm start -- --data DIR` trains on. */

import { Command, Option } from "commander";
import type { BinFormat } from "../shared/data/bin.ts";
import { OperatorError } from "../shared/operatorError.ts";
import { prepareCorpus, prepareCorpusIn, smallerVocabulary, writeBinFiles, type Corpus } from "./corpus/corpus.ts";
import { TOKENIZER_CHOICES, type CorpusSource } from "./corpus/corpusSource.ts";
import type { OnCorpusProgress } from "./corpus/encodeCorpus.ts";
import { parseFlags } from "./settings/flags.ts";
import { runProgram } from "./operatorError.ts";

type Flags = {
  readonly text?: readonly string[];
  readonly bin?: readonly string[];
  readonly tokenizer: string;
  readonly out?: string;
  readonly dataDir: string;
  readonly writeBin?: BinFormat;
};

await runProgram(async () => {
  const program = new Command("npm run prepare-data --")
    .description("Turns text into token shards and a manifest, the form that manyhands trains on.")
    .option("--text <file...>", "UTF-8 text files, each a document (default: the State of the Union addresses)")
    .option("--bin <file...>", "instead of text: token files of nanoGPT or llm.c, one or two (train, val)")
    .option("--tokenizer <kind>", TOKENIZER_CHOICES, "bpe:1024")
    .option("--out <dir>", "a new or empty folder (default: one below --data-dir, named by content)")
    .option("--data-dir <dir>", "where folders named by content are kept", "data")
    .addOption(new Option("--write-bin <format>", "also write train.bin and val.bin").choices(["nanogpt", "llm.c"]));
  parseFlags(program, process.argv.slice(2));
  const flags = program.opts<Flags>();
  const startedMs = performance.now();
  const corpus = await prepare(flags, progressPrinter());
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  process.stdout.write(`${describe(corpus)}\n  took       ${seconds} s\n`);
  const smaller = smallerVocabulary(corpus.manifest, flags.tokenizer);
  if (smaller !== undefined) process.stdout.write(`  note       ${smaller}\n`);
  if (flags.writeBin)
    for (const path of await writeBinFiles(corpus, flags.writeBin)) process.stdout.write(`  wrote      ${path}\n`);
});

function prepare({ text, bin, tokenizer, out, dataDir }: Flags, onProgress: OnCorpusProgress): Promise<Corpus> {
  if (bin && text) throw new OperatorError(`--bin ${bin.join(" ")}: not together with --text; give one of them`);
  if (bin && out === undefined)
    throw new OperatorError(`--bin ${bin.join(" ")}: needs --out DIR, a new or empty folder`);
  if (out === undefined) return prepareCorpus({ texts: text, tokenizer, dataDir, onProgress });
  const source: CorpusSource = bin ? { bins: bin } : { texts: text };
  return prepareCorpusIn({ source, tokenizer, dir: out, onProgress });
}

/** One line that changes on a terminal; a line for each stage elsewhere. */
function progressPrinter(): OnCorpusProgress {
  const terminal = process.stderr.isTTY;
  let last = "";
  return ({ stage, fraction }) => {
    const line = stage === "encoding" && terminal ? `${stage} ${Math.floor(100 * fraction)} %` : stage;
    if (line === last) return;
    last = line;
    if (terminal) process.stderr.write(`\r\u001B[K${stage === "ready" ? "" : `${line} …`}`);
    else if (stage !== "ready") process.stderr.write(`${line} …\n`);
  };
}

function describe({ dir, manifest }: Corpus): string {
  const { name, tokenizer, splits } = manifest;
  const size = (split: "train" | "val"): string => splits[split].tokens.toLocaleString("en").padStart(13);
  return [
    name,
    `  tokenizer  ${tokenizer.kind}, vocabulary ${tokenizer.vocabulary.toLocaleString("en")}`,
    `  train      ${size("train")} tokens`,
    `  validation ${size("val")} tokens`,
    `  folder     ${dir}`,
  ].join("\n");
}
