/** @file Text from a model, token by token, on any engine. */

import { sampleToken } from "../model/sample.ts";
import type { ModelSpec } from "../model/spec.ts";
import { randomUniform, streamKey } from "../numerics/rng.ts";
import { textStream, type Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Engine } from "./engine.ts";

export type GenerateOptions = {
  /** With the parameters loaded. */
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly tokenizer: Tokenizer;
  /** Empty: the model begins a document. */
  readonly prompt: string;
  /** Generated at most; fewer when the model ends the document. */
  readonly tokens: number;
  /** 0: always the likeliest token. */
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed: number;
};

/** One step of generating. */
export type GeneratedToken = {
  readonly token: number;
  /** What the model thought before it was drawn: [V], a view that the next step may overwrite. */
  readonly logits: Float32Array;
  /** The text that it completed; empty while a character is still missing bytes. */
  readonly piece: string;
};

/** Names the stream of this file's random numbers. */
const GENERATE_STREAM = 0x7e47;

/**
 * What follows the prompt, in pieces as they become characters; otherwise as {@link generateTokens}.
 *
 * @throws RangeError when the tokenizer does not know a character of the prompt.
 */
export async function* generateText(options: GenerateOptions): AsyncGenerator<string, void, void> {
  for await (const { piece } of generateTokens(options)) if (piece !== "") yield piece;
}

/**
 * What follows the prompt, token by token; a last step without a token (−1) has what was left of a character. The model sees
 * the last T tokens. The same options and parameters give the same text on the same engine.
 *
 * @throws RangeError when the tokenizer does not know a character of the prompt.
 */
export async function* generateTokens({
  engine,
  spec,
  tokenizer,
  prompt,
  tokens,
  temperature = 0.8,
  topK = spec.vocabulary,
  topP = 1,
  seed,
}: GenerateOptions): AsyncGenerator<GeneratedToken, void, void> {
  const { context, vocabulary } = spec;
  const sequence = Array.from(promptTokens(tokenizer, prompt));
  const text = textStream(tokenizer);
  const key = streamKey(seed, GENERATE_STREAM);
  for (let index = 0; index < tokens; index++) {
    const visible = sequence.slice(-context);
    // Attention looks back only, so what pads the window to T after the last token changes nothing before it.
    const inputs = new Int32Array(context);
    inputs.set(visible);
    const logits = await logitsAt(engine, inputs, visible.length - 1, vocabulary);
    const token = sampleToken(logits, { temperature, topK, topP, uniform: randomUniform(key, index) });
    if (token === tokenizer.endOfText) break;
    sequence.push(token);
    yield { token, logits, piece: text.push(token) };
  }
  const rest = text.end();
  if (rest !== "") yield { token: -1, logits: new Float32Array(vocabulary), piece: rest };
}

/** [V]. A large vocabulary's logits for every position are a hundred megabytes that nobody reads. */
async function logitsAt(
  engine: Engine,
  inputs: Int32Array,
  position: number,
  vocabulary: number,
): Promise<Float32Array> {
  if (engine.logitsAt) return engine.logitsAt(inputs, position);
  const all = await engine.logits(inputs, 1); // [1, T, V]
  return all.subarray(position * vocabulary, (position + 1) * vocabulary);
}

/** An empty prompt is what comes before a document: the end of another one, or else a new line, or else anything. */
export function promptTokens(tokenizer: Tokenizer, prompt: string): Iterable<number> {
  if (prompt !== "") return tokenizer.encode(prompt);
  if (tokenizer.endOfText !== undefined) return [tokenizer.endOfText];
  try {
    return tokenizer.encode("\n");
  } catch {
    return [0];
  }
}
