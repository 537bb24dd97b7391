/**
 * @file Every setting there is: its name in run.yaml, its flag, its type and what is allowed. A value is given by a flag or
 * by a line of a file; whoever gave it is named when it is wrong.
 */

import * as z from "zod";
import { codecs, type Codec } from "../../shared/codec/codec.ts";
import type { Sampling } from "../../shared/data/windows.ts";
import { presets, type Preset } from "../../shared/model/spec.ts";
import { OperatorError } from "../../shared/operatorError.ts";
import type { GuardChoice } from "../round/normGuard.ts";
import { parseTokenizerChoice, TOKENIZER_CHOICES } from "../corpus/corpusSource.ts";
import { defaultLimits } from "../edge/limits.ts";
import { parseNetwork } from "../edge/peerAddress.ts";
import { logKinds, type LogKind } from "../observe/log.ts";

export type EngineChoice = "auto" | "webgpu" | "onnx" | "wasm" | "cpu";

/** By path in run.yaml: `optimizer.beta1` is the key `beta1` below the key `optimizer`. */
export type SettingValues = {
  readonly name: string;
  readonly about: string;
  readonly "data.text": readonly string[];
  readonly "data.folder": string;
  readonly "data.tokenizer": string;
  readonly "model.preset": Preset;
  readonly "model.layers": number;
  readonly "model.heads": number;
  readonly "model.width": number;
  readonly "model.context": number;
  readonly "model.bias": boolean;
  readonly "model.dropout": number;
  readonly seed: number;
  readonly sampling: Sampling;
  readonly steps: number;
  readonly batch: number;
  readonly unit: number;
  readonly codec: Codec;
  readonly activations: "f32" | "f16";
  readonly strict: boolean;
  readonly admission: boolean;
  readonly guard: GuardChoice;
  readonly "optimizer.learningRate": number;
  readonly "optimizer.minLearningRate": number;
  readonly "optimizer.warmup": number;
  readonly "optimizer.schedule": "cosine" | "wsd";
  readonly "optimizer.decay": number;
  readonly "optimizer.beta1": number;
  readonly "optimizer.beta2": number;
  readonly "optimizer.epsilon": number;
  readonly "optimizer.weightDecay": number;
  readonly "optimizer.clipNorm": number;
  readonly "evaluation.every": number;
  readonly "evaluation.samples": number | "all";
  readonly "evaluation.final": number | "all";
  readonly "evaluation.unit": number;
  readonly snapshotEvery: number;
  readonly workers: number;
  readonly threads: number;
  readonly engine: EngineChoice;
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly invites: boolean;
  readonly adminToken: string;
  readonly origin: readonly string[];
  readonly trustProxy: readonly string[];
  readonly "limits.workers": number;
  readonly "limits.workersPerAddress": number;
  readonly "limits.connectsPerSecond": number;
  readonly "limits.requestsPerSecond": number;
  readonly "limits.messagesPerSecond": number;
  readonly stay: boolean;
  readonly log: LogKind;
  readonly dataDir: string;
  readonly runsDir: string;
};

export type SettingPath = keyof SettingValues;

/** What was given, and where: `--steps`, or `run.yaml line 3: steps`. */
export type Given = ReadonlyMap<SettingPath, { readonly value: unknown; readonly where: string }>;

export type Setting<Value = unknown> = {
  readonly group: "Run" | "Data" | "Model" | "Training" | "Optimizer" | "Evaluation" | "Process" | "Edge";
  readonly flag: string;
  readonly about: string;
  readonly type: z.ZodType<Value>;
  /** Completes the sentence "must be …". */
  readonly allowed: string;
  /** Text is taken as it is written; a list has one or more texts; anything else is read as YAML reads a scalar. */
  readonly form?: "text" | "list";
};

const whole = (min: number, max: number): Pick<Setting<number>, "type" | "allowed"> => ({
  type: z.int().min(min).max(max),
  allowed: `a whole number from ${min} to ${max}`,
});
const choice = <Value extends string>(values: readonly Value[]): Pick<Setting<Value>, "type" | "allowed"> => ({
  type: z.enum(values as [Value, ...Value[]]),
  allowed: `one of ${values.join(", ")}`,
});
const path = { type: z.string().min(1), allowed: "the name of a folder", form: "text" } as const;
const yesOrNo = { type: z.boolean(), allowed: "true or false" } as const;
const positive = { type: z.number().positive().max(1e6), allowed: "a number above 0" } as const;
const beta = { type: z.number().min(0).lt(1), allowed: "a number from 0 to below 1" } as const;
const windows = {
  type: z.union([z.int().min(1).max(1e9), z.literal("all")]),
  allowed: 'a whole number from 1, or "all"',
} as const;

export const settings: { readonly [Path in SettingPath]: Setting<SettingValues[Path]> } = {
  name: {
    group: "Run",
    flag: "--run <name>",
    about: "folder of the run below --runs-dir; a run that exists is resumed (default: from data and model)",
    type: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
    allowed: "1 to 64 letters, digits, '.', '_' or '-', the first a letter or a digit",
    form: "text",
  },
  about: {
    group: "Run",
    flag: "--about <sentence>",
    about: "what is trained and for whom; volunteers read it before they join",
    type: z.string().min(1).max(300),
    allowed: "a sentence of 1 to 300 characters",
    form: "text",
  },
  "data.text": {
    group: "Data",
    flag: "--text <file...>",
    about: "UTF-8 text files, each a document (default: the State of the Union addresses)",
    type: z.array(z.string().min(1)).min(1),
    allowed: "one or more text files",
    form: "list",
  },
  "data.folder": {
    group: "Data",
    flag: "--data <dir>",
    about: "instead of text: a folder made by prepare-data",
    ...path,
  },
  "data.tokenizer": {
    group: "Data",
    flag: "--tokenizer <kind>",
    about: "char, bpe:VOCABULARY or a tokenizer.json (default: bpe:1024)",
    type: z.string().refine((value) => parseTokenizerChoice(value) !== undefined),
    allowed: TOKENIZER_CHOICES,
    form: "text",
  },
  "model.preset": {
    group: "Model",
    flag: "--preset <name>",
    about: `size of the model: ${Object.keys(presets).join(", ")} (default: tiny)`,
    ...choice(Object.keys(presets) as Preset[]),
    form: "text",
  },
  "model.layers": { group: "Model", flag: "--layers <n>", about: "in place of the preset's", ...whole(1, 256) },
  "model.heads": { group: "Model", flag: "--heads <n>", about: "in place of the preset's", ...whole(1, 256) },
  "model.width": { group: "Model", flag: "--width <n>", about: "in place of the preset's", ...whole(1, 16_384) },
  "model.context": { group: "Model", flag: "--context <n>", about: "in place of the preset's", ...whole(1, 65_536) },
  "model.bias": { group: "Model", flag: "--bias", about: "biases, in place of the preset's choice", ...yesOrNo },
  "model.dropout": {
    group: "Model",
    flag: "--dropout <p>",
    about: "probability of dropping a value in training (default: 0)",
    type: z.number().min(0).max(0.9),
    allowed: "a number from 0 to 0.9",
  },
  seed: {
    group: "Training",
    flag: "--seed <n>",
    about: "of parameters, sample order and dropout (default: 1337)",
    ...whole(0, Number.MAX_SAFE_INTEGER),
  },
  sampling: {
    group: "Training",
    flag: "--sampling <kind>",
    about: "shuffled: every window once an epoch; random: any offset (default: shuffled)",
    ...choice(["shuffled", "random"]),
    form: "text",
  },
  steps: { group: "Training", flag: "--steps <n>", about: "updates of the run (default: 450)", ...whole(1, 1e9) },
  batch: {
    group: "Training",
    flag: "--batch <n>",
    about: "samples of an update (default: 96)",
    ...whole(1, 1_000_000),
  },
  unit: {
    group: "Training",
    flag: "--unit <n>",
    about: "samples of the smallest piece of work, a divisor of the batch (default: up to 12, and at least 4 units)",
    ...whole(1, 65_536),
  },
  codec: {
    group: "Training",
    flag: "--codec <name>",
    about: `how gradients and updates travel: ${codecs.join(", ")} (default: f32)`,
    ...choice(codecs),
    form: "text",
  },
  activations: {
    group: "Training",
    flag: "--activations <type>",
    about: "what GPUs may keep activations as, f32 or f16: half the memory, gradients to 2e-2 (default: f32)",
    ...choice(["f32", "f16"]),
    form: "text",
  },
  strict: {
    group: "Training",
    flag: "--strict",
    about: "bit-identical updates however many workers (default: yes while --host is this machine)",
    ...yesOrNo,
  },
  admission: {
    group: "Training",
    flag: "--admission",
    about: "workers compute a known batch before their first lease (default: yes)",
    ...yesOrNo,
  },
  guard: {
    group: "Training",
    flag: "--guard <what>",
    about: "contributions far larger than recent ones: refuse, clip or off (default: refuse)",
    ...choice(["refuse", "clip", "off"]),
    form: "text",
  },
  "optimizer.learningRate": {
    group: "Optimizer",
    flag: "--learning-rate <x>",
    about: "peak of the schedule (default: 2e-3)",
    ...positive,
  },
  "optimizer.minLearningRate": {
    group: "Optimizer",
    flag: "--min-learning-rate <x>",
    about: "end of the schedule (default: a tenth of the peak)",
    type: z.number().min(0).max(1e6),
    allowed: "a number from 0",
  },
  "optimizer.warmup": {
    group: "Optimizer",
    flag: "--warmup <steps>",
    about: "linear warm-up (default: a tenth of the steps, at most 100)",
    ...whole(0, 1e9),
  },
  "optimizer.schedule": {
    group: "Optimizer",
    flag: "--schedule <kind>",
    about: "cosine, or wsd: constant, then a decay (default: cosine)",
    ...choice(["cosine", "wsd"]),
    form: "text",
  },
  "optimizer.decay": {
    group: "Optimizer",
    flag: "--decay <steps>",
    about: "length of wsd's decay (default: a fifth of the steps)",
    ...whole(1, 1e9),
  },
  "optimizer.beta1": { group: "Optimizer", flag: "--beta1 <x>", about: "of AdamW (default: 0.9)", ...beta },
  "optimizer.beta2": { group: "Optimizer", flag: "--beta2 <x>", about: "of AdamW (default: 0.99)", ...beta },
  "optimizer.epsilon": { group: "Optimizer", flag: "--epsilon <x>", about: "of AdamW (default: 1e-8)", ...positive },
  "optimizer.weightDecay": {
    group: "Optimizer",
    flag: "--weight-decay <x>",
    about: "on tensors of rank 2 and more (default: 0.1)",
    type: z.number().min(0).max(1e6),
    allowed: "a number from 0",
  },
  "optimizer.clipNorm": {
    group: "Optimizer",
    flag: "--clip-norm <x>",
    about: "largest norm of an update's gradient (default: 1)",
    ...positive,
  },
  "evaluation.every": {
    group: "Evaluation",
    flag: "--evaluate-every <steps>",
    about: "0 for never before the end (default: a tenth of the steps, at most 100)",
    ...whole(0, 1e9),
  },
  "evaluation.samples": {
    group: "Evaluation",
    flag: "--evaluation-samples <n>",
    about: 'validation windows each time, or "all" (default: 200)',
    ...windows,
  },
  "evaluation.final": {
    group: "Evaluation",
    flag: "--final-evaluation-samples <n>",
    about: 'validation windows at the end, or "all" (default: all)',
    ...windows,
  },
  "evaluation.unit": {
    group: "Evaluation",
    flag: "--evaluation-unit <n>",
    about: "windows of one piece of work (default: 8)",
    ...whole(1, 65_536),
  },
  snapshotEvery: {
    group: "Run",
    flag: "--snapshot-every <steps>",
    about: "parameters and optimizer to disk (default: 100)",
    ...whole(1, 1e9),
  },
  workers: {
    group: "Process",
    flag: "--workers <n>",
    about: "worker processes started here (default: one per core)",
    ...whole(0, 256),
  },
  threads: { group: "Process", flag: "--threads <n>", about: "of each of them (default: 1)", ...whole(1, 1024) },
  engine: {
    group: "Process",
    flag: "--engine <name>",
    about: "what they compute with (default: auto, the fastest that starts)",
    ...choice(["auto", "webgpu", "onnx", "wasm", "cpu"]),
    form: "text",
  },
  host: {
    group: "Process",
    flag: "--host <address>",
    about: "where to listen; 0.0.0.0 lets other machines join (default: 127.0.0.1)",
    type: z.string().regex(/^[A-Za-z0-9.:_-]{1,253}$/),
    allowed: "a host name or an IP address",
    form: "text",
  },
  port: { group: "Process", flag: "--port <n>", about: "0 picks a free one (default: 8080)", ...whole(0, 65_535) },
  token: {
    group: "Process",
    flag: "--token <secret>",
    about: "workers must know it (default: none)",
    type: z.string().min(1).max(200),
    allowed: "1 to 200 characters",
    form: "text",
  },
  invites: {
    group: "Edge",
    flag: "--invites",
    about: "workers need an invite (npm run invite), or the token (default: no)",
    ...yesOrNo,
  },
  adminToken: {
    group: "Edge",
    flag: "--admin-token <secret>",
    about: "for what changes the run over HTTP (default: made once, in the run's folder, admin-token)",
    type: z.string().regex(/^[\x21-\x7e]{16,200}$/),
    allowed: "16 to 200 printable characters without spaces",
    form: "text",
  },
  origin: {
    group: "Edge",
    flag: "--origin <url...>",
    about: "pages elsewhere that may join, such as https://train.example.org (default: this coordinator's own)",
    type: z.array(z.string().refine(isOrigin)).min(1).max(100),
    allowed: "one or more origins: http:// or https://, a host, and nothing after it",
    form: "list",
  },
  trustProxy: {
    group: "Edge",
    flag: "--trust-proxy <cidr...>",
    about: "proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8 (default: none)",
    type: z.array(z.string().refine((value) => parseNetwork(value) !== null)).min(1).max(100), // prettier-ignore
    allowed: "one or more IP addresses or networks such as 10.0.0.0/8",
    form: "list",
  },
  "limits.workers": {
    group: "Edge",
    flag: "--max-workers <n>",
    about: `worker connections in all (default: ${defaultLimits.workers})`,
    ...whole(1, 100_000),
  },
  "limits.workersPerAddress": {
    group: "Edge",
    flag: "--workers-per-address <n>",
    about: `worker connections of one address (default: ${defaultLimits.workersPerAddress})`,
    ...whole(1, 100_000),
  },
  "limits.connectsPerSecond": {
    group: "Edge",
    flag: "--connects-per-second <n>",
    about: `new worker connections of one address (default: ${defaultLimits.connectsPerSecond})`,
    ...whole(1, 100_000),
  },
  "limits.requestsPerSecond": {
    group: "Edge",
    flag: "--requests-per-second <n>",
    about: `HTTP requests of one address (default: ${defaultLimits.requestsPerSecond})`,
    ...whole(1, 1_000_000),
  },
  "limits.messagesPerSecond": {
    group: "Edge",
    flag: "--messages-per-second <n>",
    about: `of one worker, beyond what its leases ask for (default: ${defaultLimits.messagesPerSecond})`,
    ...whole(1, 1_000_000),
  },
  stay: {
    group: "Process",
    flag: "--stay",
    about: "serve on after the last step, until stopped (default: no)",
    ...yesOrNo,
  },
  log: {
    group: "Process",
    flag: "--log <kind>",
    about: `${logKinds.join(", ")}: news and a progress bar, or everything as JSON or in words (default: terminal)`,
    ...choice(logKinds),
    form: "text",
  },
  dataDir: { group: "Process", flag: "--data-dir <dir>", about: "prepared corpora (default: data)", ...path },
  runsDir: { group: "Process", flag: "--runs-dir <dir>", about: "runs (default: runs)", ...path },
};

export const settingPaths: readonly SettingPath[] = Object.keys(settings) as SettingPath[];

/** What a terminal's history, or a log of a failed start, must not hold. */
const secretSettings: ReadonlySet<SettingPath> = new Set(["token", "adminToken"]);

/** @throws OperatorError naming the setting, the value and what is allowed. */
export function checkSetting(path: SettingPath, value: unknown, where: string): void {
  const { type, allowed } = settings[path];
  if (type.safeParse(value).success) return;
  throw new OperatorError(`${where} ${secretSettings.has(path) ? "(not shown)" : show(value)}: must be ${allowed}`);
}

/** The value given for a setting, which {@link checkSetting} has accepted. */
export function givenValue<Path extends SettingPath>(given: Given, path: Path): SettingValues[Path] | undefined {
  return given.get(path)?.value as SettingValues[Path] | undefined;
}

function show(value: unknown): string {
  if (Array.isArray(value)) return value.map(show).join(" ");
  return typeof value === "string" && value !== "" ? value : JSON.stringify(value);
}

/** As a browser writes it in an Origin header. */
function isOrigin(value: string): boolean {
  return /^https?:/.test(value) && URL.canParse(value) && new URL(value).origin === value;
}
