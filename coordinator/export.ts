/**
 * @file `npm run export`: a run's newest snapshot as a folder that Hugging Face's GPT-2 loads: our tensors have its names
 * and shapes already; what it has besides (biases, where the model was trained without) is written as zeros.
 */

import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { Command } from "commander";
import { namedTensors } from "../shared/codec/paramsFile.ts";
import { safetensorsParts, type NamedFloats } from "../shared/codec/safetensors.ts";
import type { Manifest } from "../shared/data/manifest.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import type { ModelSpec } from "../shared/model/spec.ts";
import { hashParams } from "../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../shared/numerics/layout.ts";
import { fileProblem, OperatorError } from "../shared/operatorError.ts";
import { count } from "./observe/count.ts";
import { readTokenizer } from "./corpus/corpus.ts";
import { parseFlags } from "./settings/flags.ts";
import { openLedger } from "./store/ledger.ts";
import { runProgram } from "./operatorError.ts";
import { loadRun, runNames } from "./settings/resolveRun.ts";
import type { RunSpec } from "./settings/runSpec.ts";
import { listSnapshots, readParamsFile, type SnapshotName } from "./store/snapshot.ts";

await runProgram(async () => {
  const program = new Command("npm run export --")
    .description("Writes a trained model as a folder for Hugging Face transformers.")
    .option("--run <name>", "which run")
    .option("--out <dir>", "a new or empty folder")
    .option("--runs-dir <dir>", "where the runs are", "runs");
  parseFlags(program, process.argv.slice(2));
  const { run, out, runsDir } = program.opts<{ run?: string; out?: string; runsDir: string }>();
  if (run === undefined) throw new OperatorError(`--run is missing; must be one of ${await runNames(runsDir)}`);
  if (out === undefined) throw new OperatorError("--out is missing; must be a new or an empty folder");
  const written = await exportRun(resolve(runsDir, run), out);
  process.stdout.write(`${written.map((file) => join(out, file)).join("\n")}\n`);
});

async function exportRun(runDir: string, out: string): Promise<readonly string[]> {
  const { spec, manifest } = await loadRun(runDir);
  if (existsSync(out) && (await readdir(out)).length > 0)
    throw new OperatorError(`--out ${out}: is not empty; must be a new or an empty folder`);
  const layout = layoutOf(gptTensors(spec.model));
  const { snapshot, params } = await newestParams(runDir, spec.name, layout);
  const tensors = namedTensors(layout, params);
  const tokenizer = await readTokenizer(join(runDir, "tokenizer.json"));
  const figures = readFigures(runDir, snapshot.version);

  const partial = join(dirname(resolve(out)), `.partial-${process.pid}-${basename(out)}`);
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    const parts = safetensorsParts(withBiases(tensors, spec.model), { format: "pt" });
    await writeFile(join(partial, "model.safetensors"), parts);
    await writeJson(join(partial, "config.json"), gpt2Config(spec.model, tokenizer.endOfText));
    await writeJson(join(partial, "generation_config.json"), {
      bos_token_id: tokenizer.endOfText ?? null,
      eos_token_id: tokenizer.endOfText ?? null,
      do_sample: true,
      temperature: 0.8,
    });
    await copyFile(join(runDir, "tokenizer.json"), join(partial, "tokenizer.json"));
    await writeJson(join(partial, "tokenizer_config.json"), tokenizerConfig(spec.model, tokenizer.endOfText));
    await writeFile(join(partial, "README.md"), card(spec, manifest, snapshot, layout.parameters, figures));
    await rename(partial, out);
    return (await readdir(out)).sort((a, b) => a.localeCompare(b));
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    const problem = fileProblem(error);
    if (problem === undefined) throw error;
    throw new OperatorError(`--out ${out}: ${problem}; must be a new or an empty folder that can be written to`);
  }
}

type Newest = { readonly snapshot: SnapshotName; readonly params: Float32Array };

/** The newest snapshot that is whole; those passed over are named on stderr. */
async function newestParams(runDir: string, name: string, layout: ParamLayout): Promise<Newest> {
  const dir = join(runDir, "snapshots");
  const problems: string[] = [];
  for (const snapshot of existsSync(dir) ? await listSnapshots(dir) : []) {
    try {
      const { params } = await readParamsFile(snapshot.paramsPath, layout);
      if (hashParams(params) !== snapshot.hash)
        throw new Error(`${snapshot.paramsPath}: not the parameters of its name`);
      if (problems.length > 0)
        process.stderr.write(`using the snapshot of step ${snapshot.version}, because ${problems.join("; ")}\n`);
      return { snapshot, params };
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  throw new OperatorError(
    problems.length > 0
      ? `--run ${name}: ${problems.join("; ")}; must be a run's snapshots`
      : `--run ${name}: there is no snapshot in ${dir} yet; must be a run that has reached its first one`,
  );
}

/** GPT-2's tensors in GPT-2's order; its loader wants every bias. */
function withBiases(tensors: readonly NamedFloats[], spec: ModelSpec): readonly NamedFloats[] {
  const own = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return gptTensors({ ...spec, bias: true }).map(({ name, shape }) => {
    const size = shape.reduce((product, extent) => product * extent, 1);
    return own.get(name) ?? { name, shape, values: new Float32Array(size) };
  });
}

function gpt2Config(spec: ModelSpec, endOfText: number | undefined): object {
  return {
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    activation_function: "gelu_new",
    attn_pdrop: spec.dropout,
    bos_token_id: endOfText ?? null,
    embd_pdrop: spec.dropout,
    eos_token_id: endOfText ?? null,
    initializer_range: 0.02,
    layer_norm_epsilon: 1e-5,
    n_ctx: spec.context,
    n_embd: spec.width,
    n_head: spec.heads,
    n_inner: null,
    n_layer: spec.layers,
    n_positions: spec.context,
    resid_pdrop: spec.dropout,
    scale_attn_weights: true,
    tie_word_embeddings: true,
    torch_dtype: "float32",
    use_cache: true,
    vocab_size: spec.vocabulary,
  };
}

function tokenizerConfig(spec: ModelSpec, endOfText: number | undefined): object {
  const token = endOfText === undefined ? null : "<|endoftext|>";
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: token,
    eos_token: token,
    clean_up_tokenization_spaces: false,
    model_max_length: spec.context,
  };
}

type Figures = {
  readonly tokens: number;
  readonly trainLoss: number | null;
  readonly validation: { readonly loss: number; readonly tokens: number; readonly version: number } | null;
};

/** What the ledger says of the run up to the snapshot's version. */
function readFigures(runDir: string, version: number): Figures {
  const ledger = openLedger(join(runDir, "ledger.sqlite"));
  try {
    const rounds = ledger.rounds().filter((round) => round.version <= version);
    const last = rounds.at(-1);
    const evaluation = ledger.evaluations().findLast((row) => row.version <= version);
    return {
      tokens: rounds.reduce((sum, round) => sum + round.tokens, 0),
      trainLoss: last ? last.lossSum / last.tokens : null,
      validation: evaluation
        ? { loss: evaluation.lossSum / evaluation.tokens, tokens: evaluation.tokens, version: evaluation.version }
        : null,
    };
  } finally {
    ledger.close();
  }
}

function card(
  { name, model, batch, seed, optimizer }: RunSpec,
  manifest: Manifest,
  { version, hash }: SnapshotName,
  parameters: number,
  { tokens, trainLoss, validation }: Figures,
): string {
  const { tokenizer } = manifest;
  const validated = validation
    ? `${loss(validation.loss)} (${count(validation.tokens)} tokens, at step ${validation.version})`
    : "–";
  return `---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, manyhands]
---

# ${name}

A GPT-2 of ${count(parameters)} parameters, trained with manyhands on ${manifest.name}.

| | |
|---|---|
| layers, heads, width, context | ${model.layers}, ${model.heads}, ${model.width}, ${model.context} |
| tokenizer | ${tokenizer.kind === "char" ? "characters" : "byte-level BPE"}, vocabulary ${count(tokenizer.vocabulary)} |
| steps | ${count(version)}, of ${batch} × ${model.context} tokens |
| tokens trained on | ${count(tokens)}, from a text of ${count(manifest.splits.train.tokens)} |
| loss of the last training step | ${loss(trainLoss)} |
| validation loss | ${validated} |
| AdamW | learning rate ${optimizer.learningRate} to ${optimizer.minLearningRate} (${optimizer.schedule}), β ${optimizer.beta1} and ${optimizer.beta2}, weight decay ${optimizer.weightDecay}, clip ${optimizer.clipNorm} |
| seed; parameter hash | ${seed}; ${hash} |

\`\`\`python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
inputs = tokenizer(${JSON.stringify(tokenizer.kind === "char" ? "The " : "My fellow")}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=${Math.max(1, model.context - 8)})[0]))
\`\`\`
${model.bias ? "" : "\nThe model was trained without biases. GPT-2 has them, so the file holds zeros in their places: the same function.\n"}`;
}

function loss(value: number | null): string {
  return value === null ? "–" : `${value.toFixed(4)} nats per token`;
}

async function writeJson(path: string, value: object): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}
