/** @file What `GET /status` and the dashboard's live events say of a run, as JSON. */
import type { Backend } from "../engine/engine.ts";
import type { Fallback } from "./protocol.ts";

export type WorkerStatus = {
  readonly worker: string;
  readonly name: string;
  readonly kind: "node" | "browser";
  /** What it says of its machine; empty where it says nothing, as pages do. */
  readonly device: string;
  readonly state: "joining" | "ready";
  readonly backend: Backend | null;
  readonly fallbacks: readonly Fallback[];
  /** Tokens merged from this worker since this coordinator started. */
  readonly tokens: number;
  /** Tokens per second over the last few seconds. */
  readonly tokensPerSecond: number;
  /** Its part of the tokens that the workers listed here computed, 0 … 1. */
  readonly share: number;
  readonly refused: number;
  readonly waitingReason: string;
  /** Versions of θ that it is behind; null before it has any. */
  readonly behind: number | null;
  /** Leases it holds now. */
  readonly leases: number;
  /** Contributions refused for their content, one after the other; it pauses after each. */
  readonly strikes: number;
};

/** Where the board is. */
export const BOARD_PATH = "/board";

/** What `GET /board` says: who has computed most of the committed tokens, in all visits, most first. */
export type Board = {
  /** Committed by the run. */
  readonly tokens: number;
  /** With a part in any committed round. */
  readonly contributors: number;
  readonly top: readonly Standing[];
};

export type Standing = {
  readonly worker: string;
  /** Empty: anonymous. */
  readonly name: string;
  readonly tokens: number;
  /** Committed rounds that hold a gradient of this worker. */
  readonly rounds: number;
};

export type Status = {
  readonly run: string;
  /** What is trained and for whom, in the operator's words. */
  readonly about: string | null;
  /** What the text is that is trained on. */
  readonly corpus: string;
  /** `working`, `committing`, `paused`, `finished` or `failed`. */
  readonly phase: string;
  /** Why the run is paused, by cause (`operator`, `disk`); empty while it is not. */
  readonly paused: Readonly<Record<string, string>>;
  /** The reducer's last reason, in words. */
  readonly reason: string;
  readonly version: number;
  readonly steps: number;
  readonly hash: string;
  readonly parameters: number;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  readonly learningRate: number;
  readonly gradientNorm: number | null;
  readonly codec: string;
  readonly strict: boolean;
  readonly counts: Readonly<Record<string, number>>;
  /** Refusals by code since this coordinator started. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly workers: readonly WorkerStatus[];
};
