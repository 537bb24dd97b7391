/** @file What the playground's page and its thread say to each other. The thread has the model; the page only shows. */
import type { ModelSpec } from "../../shared/model/spec.ts";
import type { Checkpoint } from "../../shared/wire/dashboard.ts";
import type { Fallback } from "../../shared/wire/protocol.ts";
import type { TfjsBackend } from "../messages.ts";

/** A version of the model, as far as loading it goes. */
export type Version = Pick<Checkpoint, "path" | "hash" | "version">;

export type Task =
  | {
      readonly type: "generate";
      readonly prompt: string;
      readonly tokens: number;
      readonly temperature: number;
      readonly topK: number;
      readonly topP: number;
      readonly seed: number;
    }
  /** What the last tokens of the text attend to. */
  | { readonly type: "attention"; readonly text: string }
  | { readonly type: "neighbours"; readonly token: string }
  /** b is to a as … is to c. */
  | { readonly type: "analogy"; readonly a: string; readonly b: string; readonly c: string };

export type PageToModel =
  /** First, once. `force`: only this backend; null: the best for the model's size. */
  | { readonly type: "start"; readonly tokenizerUrl: string; readonly force: TfjsBackend | null }
  | { readonly type: "task"; readonly id: number; readonly version: Version; readonly task: Task }
  /** The task is not wanted any more. */
  | { readonly type: "cancel"; readonly id: number };

export type Alternative = {
  readonly label: string;
  /** As the model thinks, before temperature, top-k and top-p. */
  readonly probability: number;
};

export type WrittenToken = Alternative & {
  /** Text that it completed; empty while a character lacks bytes. */
  readonly piece: string;
  /** The likeliest tokens in its place, likeliest first. */
  readonly alternatives: readonly Alternative[];
};

/** [layers, heads, length queries, length keys], row-major. */
export type AttentionMaps = {
  readonly labels: readonly string[];
  readonly layers: number;
  readonly heads: number;
  readonly values: Float32Array;
};

export type NeighbourList = {
  /** Which tokens were taken for what was asked: a word may be several. */
  readonly asked: readonly string[];
  readonly found: readonly { readonly label: string; readonly similarity: number }[];
};

export type EngineNews = {
  readonly type: "engine";
  readonly backend: TfjsBackend;
  readonly device: string;
  readonly fallbacks: readonly Fallback[];
  /** Whether text is written by the compiled step; null where there is none to be had: not on WebGPU. */
  readonly compiled: { readonly isUsed: true } | { readonly isUsed: false; readonly reason: string } | null;
  readonly spec: ModelSpec;
};

export type ModelToPage =
  | EngineNews
  /** A version is being fetched; null: it is there. */
  | { readonly type: "loading"; readonly version: number | null }
  | { readonly type: "token"; readonly id: number; readonly token: WrittenToken }
  | { readonly type: "attention"; readonly id: number; readonly maps: AttentionMaps }
  | { readonly type: "neighbours"; readonly id: number; readonly list: NeighbourList }
  /** The task is over; with a reason when it could not be done. */
  | { readonly type: "done"; readonly id: number; readonly problem: string | null };
