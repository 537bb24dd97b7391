/** @file The run as its settings decide it: given ones first, then those of the stored run, then defaults. No files here. */

import type { Codec } from "../../shared/codec/codec.ts";
import type { Sampling } from "../../shared/data/windows.ts";
import { presets, type ModelSpec } from "../../shared/model/spec.ts";
import type { Schedule } from "../../shared/numerics/schedule.ts";
import { OperatorError } from "../../shared/operatorError.ts";
import { defaultLimits, type Limits } from "../edge/limits.ts";
import type { OriginPolicy } from "../edge/origin.ts";
import { parseNetwork, type TrustedProxies } from "../edge/peerAddress.ts";
import type { LogKind } from "../observe/log.ts";
import type { GuardChoice } from "../round/normGuard.ts";
import {
  givenValue,
  settings,
  type EngineChoice,
  type Given,
  type SettingPath,
  type SettingValues,
} from "./settings.ts";

/** What makes a run the run it is; stored as runs/NAME/run.yaml. */
export type RunSpec = {
  readonly name: string;
  /** What is trained and for whom, in the operator's words; null when nothing was said. */
  readonly about: string | null;
  readonly data: {
    /** Text files; null for the default corpus. */
    readonly text: readonly string[] | null;
    /** A folder made by prepare-data, instead of text and tokenizer. */
    readonly folder: string | null;
    readonly tokenizer: string;
  };
  readonly model: ModelSpec;
  readonly seed: number;
  readonly sampling: Sampling;
  readonly steps: number;
  /** Samples of a round. */
  readonly batch: number;
  /** Samples of a training unit; divides the batch. */
  readonly unit: number;
  readonly codec: Codec;
  /** What GPUs may keep activations as; with f16 their gradients are near the others', no longer equal to rounding. */
  readonly activations: "f32" | "f16";
  readonly strict: boolean;
  /** No lease before a worker has computed a known batch right. */
  readonly admission: boolean;
  /** What becomes of a contribution whose norm is far above those of recent rounds. */
  readonly guard: GuardChoice;
  readonly optimizer: {
    readonly learningRate: number;
    readonly minLearningRate: number;
    /** Steps. */
    readonly warmup: number;
    readonly schedule: "cosine" | "wsd";
    /** Steps; of `wsd` only. */
    readonly decay: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly epsilon: number;
    readonly weightDecay: number;
    readonly clipNorm: number;
  };
  readonly evaluation: {
    /** Steps; 0 for only at the end. */
    readonly every: number;
    /** Validation windows. */
    readonly samples: number | "all";
    readonly final: number | "all";
    /** Samples of an evaluation unit. */
    readonly unit: number;
  };
  readonly snapshotEvery: number;
  /** Workers need an invite. */
  readonly invites: boolean;
};

/** A run before its corpus is known, which decides the vocabulary. */
export type DraftSpec = Omit<RunSpec, "model"> & { readonly model: Omit<ModelSpec, "vocabulary"> };

/** What concerns this process, not the run. */
export type ProcessSettings = {
  readonly workers: number;
  readonly threads: number;
  readonly engine: EngineChoice;
  readonly host: string;
  readonly port: number;
  readonly token: string | null;
  /** Null: the one in the run's folder. */
  readonly adminToken: string | null;
  readonly limits: Limits;
  readonly proxies: TrustedProxies;
  readonly origins: OriginPolicy;
  /** Serve on after the last step. */
  readonly stay: boolean;
  readonly log: LogKind;
  readonly dataDir: string;
  readonly runsDir: string;
};

/** @throws OperatorError when both texts and a folder, or a folder and a tokenizer, are given. */
export function draftSpec(given: Given, stored: Given = new Map()): DraftSpec {
  const pick = <Path extends SettingPath>(path: Path, fallback: SettingValues[Path]): SettingValues[Path] =>
    givenValue(given, path) ?? givenValue(stored, path) ?? fallback;
  const steps = pick("steps", 450);
  const batch = pick("batch", 96);
  const learningRate = pick("optimizer.learningRate", 2e-3);
  return {
    name: pick("name", defaultName(given)),
    about: givenValue(given, "about") ?? givenValue(stored, "about") ?? null,
    data: draftData(given, stored),
    model: draftModel(given, stored),
    seed: pick("seed", 1337),
    sampling: pick("sampling", "shuffled"),
    steps,
    batch,
    unit: pick("unit", [12, 8, 6, 5, 4, 3, 2].find((unit) => batch % unit === 0 && batch / unit >= 4) ?? 1),
    codec: pick("codec", "f32"),
    activations: pick("activations", "f32"),
    strict: pick("strict", isLoopback(givenValue(given, "host") ?? DEFAULT_HOST)),
    admission: pick("admission", true),
    guard: pick("guard", "refuse"),
    optimizer: {
      learningRate,
      minLearningRate: pick("optimizer.minLearningRate", learningRate / 10),
      warmup: pick("optimizer.warmup", Math.min(100, Math.floor(steps / 10))),
      schedule: pick("optimizer.schedule", "cosine"),
      decay: pick("optimizer.decay", Math.max(1, Math.floor(steps / 5))),
      beta1: pick("optimizer.beta1", 0.9),
      beta2: pick("optimizer.beta2", 0.99),
      epsilon: pick("optimizer.epsilon", 1e-8),
      weightDecay: pick("optimizer.weightDecay", 0.1),
      clipNorm: pick("optimizer.clipNorm", 1),
    },
    evaluation: {
      every: pick("evaluation.every", Math.min(100, Math.max(1, Math.floor(steps / 10)))),
      samples: pick("evaluation.samples", 200),
      final: pick("evaluation.final", "all"),
      unit: pick("evaluation.unit", 8),
    },
    snapshotEvery: pick("snapshotEvery", 100),
    invites: pick("invites", false),
  };
}

export function processSettings(given: Given, cores: number): ProcessSettings {
  const limit = (name: keyof Limits): number => givenValue(given, `limits.${name}`) ?? defaultLimits[name];
  const host = givenValue(given, "host") ?? DEFAULT_HOST;
  const proxies = (givenValue(given, "trustProxy") ?? [])
    .map((text) => parseNetwork(text))
    .filter((network) => network !== null);
  return {
    workers: givenValue(given, "workers") ?? cores,
    threads: givenValue(given, "threads") ?? 1,
    engine: givenValue(given, "engine") ?? "auto",
    host,
    port: givenValue(given, "port") ?? 8080,
    token: givenValue(given, "token") ?? null,
    adminToken: givenValue(given, "adminToken") ?? null,
    limits: {
      workers: limit("workers"),
      workersPerAddress: limit("workersPerAddress"),
      connectsPerSecond: limit("connectsPerSecond"),
      requestsPerSecond: limit("requestsPerSecond"),
      messagesPerSecond: limit("messagesPerSecond"),
    },
    proxies,
    origins: { allowed: givenValue(given, "origin") ?? [], loopbackOnly: isLoopback(host) && proxies.length === 0 },
    stay: givenValue(given, "stay") ?? false,
    log: givenValue(given, "log") ?? "terminal",
    dataDir: givenValue(given, "dataDir") ?? "data",
    runsDir: givenValue(given, "runsDir") ?? "runs",
  };
}

/** Flags over run.yaml; text files and a folder exclude each other, so one given later replaces the other. */
export function overlay(lower: Given, upper: Given): Given {
  const merged = new Map([...lower, ...upper]);
  if (upper.has("data.text")) merged.delete("data.folder");
  if (upper.has("data.folder")) {
    merged.delete("data.text");
    if (!upper.has("data.tokenizer")) merged.delete("data.tokenizer");
  }
  return merged;
}

/**
 * What a resumed run changes, in words. A run may grow and be steered; its model, order of samples and seed stay.
 *
 * @throws OperatorError for a change that a run cannot take.
 */
export function changesOnResume(draft: DraftSpec, stored: DraftSpec, given: Given): readonly string[] {
  const [now, before] = [specSettings(draft), specSettings(stored)];
  const changes: string[] = [];
  for (const [path, value] of now) {
    const old = before.get(path);
    if (path.startsWith("data.") || value === old) continue;
    // (A preset is stored as the sizes it stood for.)
    const where = given.get(path)?.where ?? given.get("model.preset")?.where ?? path;
    if (fixed.has(path)) {
      throw new OperatorError(
        `${where}: ${path} would be ${String(value)}, the run "${stored.name}" has ${String(old)}; must stay, or give another --run NAME`,
      );
    }
    if (path === "steps" && draft.steps < stored.steps) {
      throw new OperatorError(
        `${where} ${draft.steps}: must be at least ${stored.steps}, the steps of the run "${stored.name}"; or give another --run NAME`,
      );
    }
    changes.push(`${path} ${String(old)} → ${String(value)}`);
  }
  return changes;
}

/** The spec as settings, for run.yaml and for comparing: sizes in place of a preset. */
export function specSettings(spec: DraftSpec): ReadonlyMap<SettingPath, unknown> {
  const values = new Map<SettingPath, unknown>();
  for (const path of Object.keys(settings) as SettingPath[]) {
    const [first = "", second] = path.split(".");
    const owner = spec as unknown as Record<string, unknown>;
    const value = second === undefined ? owner[first] : (owner[first] as Record<string, unknown> | undefined)?.[second];
    if (value !== undefined && value !== null) values.set(path, value);
  }
  if (spec.data.folder !== null) values.delete("data.tokenizer");
  return values;
}

export function scheduleOf({ steps, optimizer }: Pick<RunSpec, "steps" | "optimizer">): Schedule {
  const { learningRate, minLearningRate, warmup, schedule, decay } = optimizer;
  const common = { learningRate, minLearningRate, warmupSteps: warmup, totalSteps: steps };
  return schedule === "cosine" ? { ...common, kind: "cosine" } : { ...common, kind: "wsd", decaySteps: decay };
}

const DEFAULT_HOST = "127.0.0.1";

const fixed: ReadonlySet<SettingPath> = new Set([
  "model.layers",
  "model.heads",
  "model.width",
  "model.context",
  "model.bias",
  "model.dropout",
  "seed",
  "sampling",
  "batch",
  "unit",
]);

function draftData(given: Given, stored: Given): RunSpec["data"] {
  const source = given.has("data.text") || given.has("data.folder") ? given : stored;
  const data = {
    text: givenValue(source, "data.text") ?? null,
    folder: givenValue(source, "data.folder") ?? null,
    tokenizer: givenValue(given, "data.tokenizer") ?? givenValue(stored, "data.tokenizer") ?? "bpe:1024",
  };
  if (data.folder === null) return data;
  for (const path of ["data.text", "data.tokenizer"] as const) {
    const where = given.get(path)?.where;
    if (where) throw new OperatorError(`${where}: not together with the folder ${data.folder}; must be left out`);
  }
  return data;
}

function draftModel(given: Given, stored: Given): DraftSpec["model"] {
  const preset = givenValue(given, "model.preset") ?? givenValue(stored, "model.preset");
  const size = presets[preset ?? "tiny"];
  // A preset that is given stands for sizes, so it goes before the stored ones.
  const stack = given.has("model.preset") ? [given] : [given, stored];
  const pick = <Path extends SettingPath>(path: Path, fallback: SettingValues[Path]): SettingValues[Path] => {
    for (const source of stack) {
      const value = givenValue(source, path);
      if (value !== undefined) return value;
    }
    return fallback;
  };
  return {
    kind: "gpt",
    layers: pick("model.layers", size.layers),
    heads: pick("model.heads", size.heads),
    width: pick("model.width", size.width),
    context: pick("model.context", size.context),
    bias: pick("model.bias", size.bias),
    dropout: givenValue(given, "model.dropout") ?? givenValue(stored, "model.dropout") ?? 0,
  };
}

/** @throws OperatorError when two settings contradict each other, naming one that was given. */
export function requireConsistent({ model, batch, unit, optimizer }: DraftSpec, given: Given): void {
  const refuse = (paths: readonly SettingPath[], value: (path: SettingPath) => string): void => {
    const path = paths.find((candidate) => given.has(candidate)) ?? paths[0];
    if (path === undefined) return;
    throw new OperatorError(`${given.get(path)?.where ?? path} ${value(path)}`);
  };
  const { heads, width } = model;
  if (width % heads !== 0) {
    refuse(["model.heads", "model.width"], (path) =>
      path === "model.heads"
        ? `${heads}: must divide the width, ${width}`
        : `${width}: must be a multiple of the heads, ${heads}`,
    );
  }
  if (batch % unit !== 0) {
    refuse(["unit", "batch"], (path) =>
      path === "unit"
        ? `${unit}: must divide the batch, ${batch}`
        : `${batch}: must be a multiple of the unit, ${unit}`,
    );
  }
  const { learningRate, minLearningRate } = optimizer;
  if (minLearningRate > learningRate) {
    refuse(["optimizer.minLearningRate", "optimizer.learningRate"], (path) =>
      path === "optimizer.minLearningRate"
        ? `${minLearningRate}: must be at most the learning rate, ${learningRate}`
        : `${learningRate}: must be at least its minimum, ${minLearningRate}`,
    );
  }
}

/** `shakespeare-tiny`: what is trained on, and what size of model. */
function defaultName(given: Given): string {
  const file = givenValue(given, "data.folder") ?? givenValue(given, "data.text")?.[0];
  const stem = file?.replace(/[/\\]+$/, "").replace(/^.*[/\\]/, "").replace(/\.[^.]*$/, ""); // prettier-ignore
  const slug = stem?.replaceAll(/[^A-Za-z0-9_-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 40); // prettier-ignore
  const sizes: readonly SettingPath[] = ["model.layers", "model.heads", "model.width", "model.context"];
  const model = sizes.some((path) => given.has(path)) ? "custom" : (givenValue(given, "model.preset") ?? "tiny");
  return `${slug === undefined ? "sotu" : slug || "text"}-${model}`;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
