/**
 * @file The expected answer to the examination: computed once per run by a program of worker-node, kept in the run's folder.
 *
 * A child process and not this one: the run's own model takes a real engine (a plain one needs minutes
 * where ONNX Runtime needs 0.1 s), and the coordinator imports nothing that computes.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { type Answer, examinationSamples } from "../../shared/engine/examination.ts";
import type { RunDescription } from "../../shared/wire/protocol.ts";
import { OperatorError } from "../operatorError.ts";
import { runProgramFile } from "../children.ts";
import { writeDurably } from "../store/durably.ts";

export type KnownAnswer = {
  readonly answer: Answer;
  /** ‖Σ gradient‖ of the run's first unit at θ_0, and its tokens. */
  readonly firstUnit: { readonly norm: number; readonly tokens: number };
};

const FILE = "examination.json";

const found = z.object({
  lossSum: z.number(),
  tokens: z.int(),
  sketch: z.array(z.number()),
  firstUnit: z.object({ norm: z.number().positive(), tokens: z.int().positive() }),
});
const stored = found.extend({ question: z.string() });

/** @throws OperatorError when the program that computes it fails. */
export async function knownAnswer(options: {
  run: RunDescription;
  corpusDir: string;
  runDir: string;
  /** Ends the program when the coordinator stops. */
  signal: AbortSignal;
}): Promise<KnownAnswer> {
  const { run, corpusDir, runDir, signal } = options;
  const { model, seed, sampling, batch, unit, manifestPath } = run;
  const examined = examinationSamples(unit);
  const question = createHash("sha256").update(JSON.stringify({ model, seed, sampling, batch, unit, examined, manifestPath })).digest("hex"); // prettier-ignore
  const path = join(runDir, FILE);
  const before = await readStored(path);
  if (before?.question === question) return answerOf(before);
  const { code, stdout, stderr } = await runProgramFile(
    "worker-node/knownAnswer",
    [JSON.stringify(run), corpusDir],
    signal,
  );
  if (code !== 0) {
    throw new OperatorError(
      `admission: what workers must find before their first lease could not be computed here (${errorLine(stderr)}); ` +
        "mend that, or train without it: --no-admission",
    );
  }
  const computed = found.parse(JSON.parse(stdout));
  await writeDurably(path, [Buffer.from(JSON.stringify({ question, ...computed }))]);
  return answerOf(computed);
}

/** The one line of a crash that says why. */
function errorLine(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  return (
    lines.find((line) => /^(\w*Error|error)\b.*: /.test(line)) ??
    lines.find((line) => line !== "") ??
    "it ended without a word"
  );
}

/** Null when there is none, or none that can be read: it is computed again. */
async function readStored(path: string): Promise<z.infer<typeof stored> | null> {
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null) return null;
  try {
    return stored.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function answerOf({ lossSum, tokens, sketch, firstUnit }: z.infer<typeof found>): KnownAnswer {
  return { answer: { lossSum, tokens, sketch: Float64Array.from(sketch) }, firstUnit };
}
