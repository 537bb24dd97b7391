/** @file Moments in a volunteer's session, at fixed data: what the page shows of each is tested and looked at. */
import type { SessionState } from "../../../shared/worker/session.ts";
import type { Board } from "../../../shared/wire/status.ts";
import type { StatusSubset } from "../../support/pages.ts";
import type { SessionToPage } from "../../../worker-browser/messages.ts";
import type { Curve } from "../../../worker-browser/volunteer/curve.ts";

export const status: StatusSubset = {
  run: "state-of-the-union",
  about: null,
  corpus: "State of the Union addresses",
  parameters: 814_720,
  version: 812,
  steps: 2000,
  tokens: 623_616,
  tokensPerSecond: 8423,
  trainLoss: 2.1873,
  validationLoss: 2.2046,
  workers: [{}, {}, {}],
};

export const board: Board = {
  tokens: 645_888,
  contributors: 17,
  top: [
    { worker: "w2", name: "reading room", tokens: 182_272, rounds: 641 },
    { worker: "w3", name: "Mei", tokens: 97_280, rounds: 402 },
    { worker: "w1", name: "", tokens: 54_784, rounds: 188 },
    { worker: "w4", name: "", tokens: 54_272, rounds: 201 },
    { worker: "w5", name: "kitchen laptop", tokens: 40_960, rounds: 160 },
  ],
};

const joined: Partial<SessionState> = {
  identity: { worker: "w1", secret: "s" },
  run: {
    name: status.run,
    model: { kind: "gpt", layers: 4, heads: 4, width: 128, context: 64, vocabulary: 65, bias: false, dropout: 0 },
    seed: 1,
    sampling: "shuffled",
    batch: 12,
    unit: 4,
    evaluationUnit: 4,
    steps: 2000,
    codec: "f32",
    strict: false,
    manifestPath: "/corpus/manifest.json",
  },
};

export const loading: Partial<SessionState> = { ...joined, phase: { name: "loading", what: "engine and parameters" } };

export const working: Partial<SessionState> = {
  ...joined,
  phase: { name: "working" },
  engine: { backend: "webgpu", fallbacks: [] },
  held: { version: 841, hash: "0123456789abcdef" },
  leases: new Set([7]),
  unitsDone: 214,
  progress: {
    version: 841,
    steps: 2000,
    trainLoss: 2.1512,
    validationLoss: 2.1998,
    tokens: 645_888,
    tokensPerSecond: 11_730,
    workers: 4,
    yourTokens: 54_784,
    yourTokensPerSecond: 3312,
    yourRounds: 188,
    yourRank: 3,
    contributors: 17,
    reason: "step 842: 2 of 3 units are in; 1 is leased to a worker",
  },
};

export const fallenBack: Partial<SessionState> = {
  ...working,
  engine: {
    backend: "wasm",
    fallbacks: [
      { backend: "webgpu", reason: "browsers offer WebGPU only on https pages and on localhost" },
      { backend: "webgl", reason: "WebGL has only 16-bit floats here" },
    ],
  },
};

export const offline: Partial<SessionState> = {
  ...working,
  leases: new Set(),
  phase: { name: "offline", retryAtMs: 0, reason: "the coordinator does not answer" },
};

export const refused: Partial<SessionState> = {
  ...joined,
  phase: { name: "ended", ok: false, reason: "bad-token: this run asks for a token" },
};

export const finished: Partial<SessionState> = {
  ...working,
  leases: new Set(),
  phase: { name: "ended", ok: true, reason: "the run is finished" },
};

export const pausedByVolunteer: Partial<SessionState> = {
  ...working,
  leases: new Set(),
  phase: { name: "resting", reason: "paused" },
};

export const dataUsedUp: Partial<SessionState> = {
  ...working,
  leases: new Set(),
  phase: { name: "resting", reason: "data" },
};

export const usage: Extract<SessionToPage, { type: "usage" }> = {
  type: "usage",
  usage: {
    bytesUp: 20_400_000,
    bytesDown: 28_100_000,
    bytesLastHour: 48_500_000,
    record: [],
    roundBytes: 6_517_760,
    returnBytes: 9_776_640,
    computeMs: 44_000,
    workingMs: 60_000,
  },
};

const noise = (i: number): number => 0.07 * Math.sin(12.9 * i) * Math.cos(7.3 * i);
const lossAt = (step: number): number => 2.15 + 2 * Math.exp(-step / 90) + 0.35 * Math.exp(-step / 500);

/** A loss that falls as losses do, with the noise of a batch: the same at every call. */
export const curve: Curve = (() => {
  const version = Array.from({ length: 203 }, (_, i) => 1 + 4 * i);
  const evaluated = Array.from({ length: 9 }, (_, i) => 100 * i);
  return {
    version,
    loss: version.map((step, i) => lossAt(step) + noise(i)),
    evaluations: { version: evaluated, loss: evaluated.map((step) => lossAt(step) + 0.02) },
  };
})();
