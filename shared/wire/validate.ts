/** @file Turns what came off the wire into a message, or throws a ProtocolError; nothing past it re-checks shapes. */
import * as z from "zod/mini";
import { ProtocolError } from "./protocol.ts";
import type { CoordinatorMessage, WorkerMessage } from "./protocol.ts";

/** Positions and versions: far below 2^53, so that arithmetic on them stays exact. */
const count = z.int().check(z.minimum(0), z.maximum(2 ** 48));
const positive = z.int().check(z.minimum(1), z.maximum(2 ** 31));
const milliseconds = z.number().check(z.minimum(0), z.maximum(1e9));
const finite = z.number().check(z.refine((value) => Number.isFinite(value)));
const text = (maximum: number) => z.string().check(z.maxLength(maximum));
const hash = z.string().check(z.regex(/^[0-9a-f]{16}$/));
const identifier = z.string().check(z.regex(/^[A-Za-z0-9_-]{1,64}$/));
const path = z.string().check(z.maxLength(512), z.startsWith("/"));
const backend = z.enum(["onnx", "webgpu", "webgl", "wasm", "cpu"]);

/** NaN and infinities included: what a worker computed is judged by its content, which gives the lease back. */
const computed = z.custom<number>((value) => typeof value === "number");

const result = {
  lease: count,
  base: count,
  hash,
  firstUnit: count,
  units: positive,
  tokens: count,
  lossSum: computed,
  computeMs: milliseconds,
};

const workerMessage = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("hello"),
    protocolVersion: count,
    kind: z.enum(["node", "browser"]),
    name: text(64),
    device: z.optional(text(128)),
    token: z.optional(text(2048)),
    resume: z.optional(z.strictObject({ worker: identifier, secret: identifier })),
  }),
  z.strictObject({ type: z.literal("examination"), backend, lossSum: computed, tokens: count }),
  z.strictObject({
    type: z.literal("ready"),
    backend,
    fallbacks: z.array(z.strictObject({ backend, reason: text(300) })).check(z.maxLength(8)),
    version: count,
    hash,
    unitMs: milliseconds,
  }),
  z.strictObject({ type: z.literal("pull") }),
  z.strictObject({ type: z.literal("contribution"), ...result }),
  z.strictObject({ type: z.literal("evaluation"), ...result }),
  z.strictObject({ type: z.literal("release"), lease: count, reason: text(200) }),
  z.strictObject({ type: z.literal("heartbeat") }),
  z.strictObject({ type: z.literal("leave"), reason: text(200) }),
]);

const snapshot = z.strictObject({ path, version: count, hash });

const coordinatorMessage = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("welcome"),
    protocolVersion: count,
    worker: identifier,
    secret: identifier,
    run: z.strictObject({
      name: text(128),
      model: z.strictObject({
        kind: z.literal("gpt"),
        layers: positive,
        heads: positive,
        width: positive,
        context: positive,
        vocabulary: positive,
        bias: z.boolean(),
        dropout: z.number().check(z.minimum(0), z.maximum(0.99)),
      }),
      seed: count,
      sampling: z.enum(["shuffled", "random"]),
      batch: positive,
      unit: positive,
      evaluationUnit: positive,
      steps: count,
      codec: z.enum(["f32", "i8", "i4"]),
      strict: z.boolean(),
      activations: z.optional(z.literal("f16")),
      manifestPath: path,
    }),
    snapshot,
    heartbeatMs: milliseconds,
  }),
  z.strictObject({ type: z.literal("snapshot"), snapshot, reason: text(300) }),
  z.strictObject({
    type: z.literal("lease"),
    lease: count,
    kind: z.enum(["train", "evaluate"]),
    base: count,
    origin: count,
    samples: positive,
    firstUnit: count,
    units: positive,
    deadlineMs: milliseconds,
    traceparent: z.optional(z.string().check(z.regex(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/))),
  }),
  z.strictObject({ type: z.literal("update"), version: count, hash }),
  z.strictObject({ type: z.literal("waiting"), reason: text(500) }),
  z.strictObject({
    type: z.literal("progress"),
    version: count,
    steps: count,
    trainLoss: z.nullable(finite),
    validationLoss: z.nullable(finite),
    tokens: count,
    tokensPerSecond: finite,
    workers: count,
    yourTokens: count,
    yourTokensPerSecond: finite,
    yourRounds: count,
    yourRank: z.nullable(positive),
    contributors: count,
    reason: text(500),
  }),
  z.strictObject({
    type: z.literal("refused"),
    code: text(64),
    message: text(1000),
    fatal: z.boolean(),
    accept: z.optional(z.strictObject({ version: count, lease: z.optional(positive) })),
  }),
  z.strictObject({ type: z.literal("finished"), version: count }),
]);

/** Whether a message carries a payload; any other payload must be empty. */
const carriesPayload: ReadonlySet<string> = new Set(["contribution", "examination", "update"]);

/** @throws ProtocolError `bad-message` naming the first field that is wrong. */
export function validateWorkerMessage(header: unknown, payloadBytes: number): WorkerMessage {
  return check(workerMessage, header, payloadBytes) as WorkerMessage;
}

/** @throws ProtocolError `bad-message` naming the first field that is wrong. */
export function validateCoordinatorMessage(header: unknown, payloadBytes: number): CoordinatorMessage {
  return check(coordinatorMessage, header, payloadBytes) as CoordinatorMessage;
}

function check<T extends { type: string }>(schema: z.ZodMiniType<T>, header: unknown, payloadBytes: number): T {
  const parsed = z.safeParse(schema, header);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue === undefined || issue.path.length === 0 ? "message" : issue.path.join(".");
    throw new ProtocolError("bad-message", `${field}: ${(issue?.message ?? "not understood").slice(0, 200)}`);
  }
  if (payloadBytes > 0 !== carriesPayload.has(parsed.data.type)) {
    throw new ProtocolError("bad-message", `${parsed.data.type} with a payload of ${payloadBytes} bytes`);
  }
  return parsed.data;
}
