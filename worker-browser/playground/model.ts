/**
 * @file The playground's thread: fetches a version of the model, and writes, attends and compares with it.
 * One task after the other; a task that is not wanted any more ends at its next token.
 */
import { readParams } from "../../shared/codec/paramsFile.ts";
import { readSafetensors } from "../../shared/codec/safetensors.ts";
import { createEagerEngine, type EagerEngine } from "../../shared/engine/eager.ts";
import { generateTokens } from "../../shared/engine/generate.ts";
import { gptTensors } from "../../shared/model/gptTensors.ts";
import { analogy, nearestTokens, type Embedding, type Neighbour } from "../../shared/model/neighbours.ts";
import { parseModelSpec } from "../../shared/model/parseSpec.ts";
import { samplingProbabilities } from "../../shared/model/sample.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import { hashParams } from "../../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../../shared/numerics/layout.ts";
import { textStream, type Tokenizer } from "../../shared/tokenizer/tokenizer.ts";
import { readTokenizerJson } from "../../shared/tokenizer/tokenizerJson.ts";
import type { Fallback } from "../../shared/wire/protocol.ts";
import { backends } from "../engine.ts";
import { startBackend } from "../tfjs.ts";
import type { TfjsBackend } from "../messages.ts";
import type { Alternative, EngineNews, ModelToPage, PageToModel, Task, Version } from "./messages.ts";

type Chosen = {
  readonly engine: EagerEngine;
  readonly spec: string;
  /** Why nothing that it computes is believed any more, or null. */
  readonly broken: () => string | null;
};

type Model = { readonly spec: ModelSpec; readonly layout: ParamLayout; readonly params: Float32Array };

/** Two to compare and one on the way. */
const MAX_MODELS = 3;

/** As many as a screen can show as lines. */
const MAX_ATTENTION_TOKENS = 40;

const ALTERNATIVES = 10;
const NEIGHBOURS = 12;

/** Below it one sequence is computed before a GPU's shaders would be compiled, and the GPU is left to who trains on it. */
const SMALL_MODEL = 20e6;

let tokenizer: Promise<Tokenizer> | null = null;
let force: TfjsBackend | null = null;
let engine: Chosen | null = null;
/** What befell the devices of this thread: why the compiled step is not tried again. */
let befallen: string | null = null;
let loaded: string | null = null;
const models = new Map<string, Model>();
const cancelled = new Set<number>();
let queue: Promise<void> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<PageToModel>) => {
  switch (data.type) {
    case "start":
      force = data.force;
      tokenizer = fetchTokenizer(data.tokenizerUrl);
      break;
    case "task": {
      const { id, version, task } = data;
      queue = queue.then(() => run(id, version, task));
      break;
    }
    case "cancel":
      cancelled.add(data.id);
      break;
    default:
      data satisfies never;
  }
});

function post(message: ModelToPage, transfer: Transferable[] = []): void {
  self.postMessage(message, { transfer });
}

async function run(id: number, version: Version, task: Task): Promise<void> {
  try {
    if (!cancelled.has(id)) await perform(id, version, task);
    // A device with an error goes on, with garbage.
    const reason = engine?.broken() ?? null;
    if (reason !== null) throw new Error(reason);
    post({ type: "done", id, problem: null });
  } catch (error) {
    post({ type: "done", id, problem: error instanceof Error ? error.message : String(error) });
  } finally {
    cancelled.delete(id);
  }
}

async function perform(id: number, version: Version, task: Task): Promise<void> {
  const model = await modelOf(version);
  const words = await (tokenizer ?? Promise.reject(new Error("a task came before the tokenizer")));
  switch (task.type) {
    case "generate":
      return write(id, await engineFor(version, model), model.spec, words, task);
    case "attention":
      return attend(id, await engineFor(version, model), model.spec, words, task.text);
    case "neighbours": {
      const token = tokenOf(words, task.token);
      return list(id, words, [token], nearestTokens(embeddingOf(model), token, NEIGHBOURS));
    }
    case "analogy": {
      const [a, b, c] = [tokenOf(words, task.a), tokenOf(words, task.b), tokenOf(words, task.c)];
      return list(id, words, [a, b, c], analogy(embeddingOf(model), { a, b, c }, NEIGHBOURS));
    }
    default:
      return task satisfies never;
  }
}

async function write(
  id: number,
  on: EagerEngine,
  spec: ModelSpec,
  words: Tokenizer,
  task: Extract<Task, { type: "generate" }>,
): Promise<void> {
  for await (const { token, logits, piece } of generateTokens({ engine: on, spec, tokenizer: words, ...task })) {
    const thought = token < 0 ? new Float64Array() : samplingProbabilities(logits, { temperature: 1 });
    const best = Uint32Array.from(thought.keys()).sort((x, y) => (thought[y] ?? 0) - (thought[x] ?? 0) || x - y);
    const alternative = (which: number): Alternative => ({ label: labelOf(words, which), probability: thought[which] ?? 0 }); // prettier-ignore
    const chosen = token < 0 ? { label: piece, probability: 1 } : alternative(token);
    post({ type: "token", id, token: { ...chosen, piece, alternatives: Array.from(best.subarray(0, ALTERNATIVES), alternative) } }); // prettier-ignore
    // Lets a cancellation in.
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (cancelled.has(id)) return;
  }
}

async function attend(id: number, on: EagerEngine, spec: ModelSpec, words: Tokenizer, text: string): Promise<void> {
  const ids = Array.from(words.encode(text)).slice(-Math.min(spec.context, MAX_ATTENTION_TOKENS));
  if (ids.length === 0) throw new Error("there is no text to look at");
  const inputs = new Int32Array(spec.context);
  inputs.set(ids);
  const values = await on.attention(inputs, ids.length);
  const { layers, heads } = spec;
  const labels = ids.map((token) => labelOf(words, token));
  post({ type: "attention", id, maps: { labels, layers, heads, values } }, [values.buffer]);
}

function list(id: number, words: Tokenizer, asked: readonly number[], found: readonly Neighbour[]): void {
  post({
    type: "neighbours",
    id,
    list: {
      asked: asked.map((token) => labelOf(words, token)),
      found: found.map(({ token, similarity }) => ({ label: labelOf(words, token), similarity })),
    },
  });
}

/** The engine with this version in it. */
async function engineFor(version: Version, model: Model): Promise<EagerEngine> {
  const key = JSON.stringify(model.spec);
  const reason = engine?.broken() ?? null;
  if (reason !== null) befallen = reason;
  if (engine?.spec !== key || reason !== null) {
    await engine?.engine.dispose();
    engine = null;
    loaded = null;
    engine = await chooseEngine(key, model);
  }
  if (loaded !== version.hash) await engine.engine.load(model.params);
  loaded = version.hash;
  return engine.engine;
}

/** @throws Error with every reason when nothing here can compute. */
async function chooseEngine(key: string, { spec, layout, params }: Model): Promise<Chosen> {
  const quickest: readonly TfjsBackend[] = layout.parameters < SMALL_MODEL ? ["wasm", "webgpu", "webgl", "cpu"] : backends; // prettier-ignore
  const fallbacks: Fallback[] = [];
  for (const backend of force === null ? quickest : [force]) {
    try {
      let started = await startBackend(backend);
      let compiled: EngineNews["compiled"] = null;
      let made: EagerEngine | null = null;
      if (backend === "webgpu") {
        try {
          if (befallen !== null) throw new Error(befallen);
          const { startCompiledWriter } = await import("./compiledWriter.ts");
          made = await startCompiledWriter({ spec, layout, params });
          compiled = { isUsed: true };
        } catch (error) {
          compiled = { isUsed: false, reason: reasonOf(error) };
          // On a device that had an error nothing more is computed.
          if (started.fault() !== null) started = await startBackend(backend);
        }
      }
      made ??= await createEagerEngine({ spec, layout, backend });
      const { device, fault } = started;
      let lost: string | null = null;
      void started.lost.then((reason) => (lost = reason));
      post({ type: "engine", backend, device, fallbacks, compiled, spec });
      return { engine: made, spec: key, broken: () => lost ?? fault() };
    } catch (error) {
      fallbacks.push({ backend, reason: reasonOf(error) });
    }
  }
  throw new Error(
    `nothing here can compute: ${fallbacks.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ")}`,
  );
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 300);
}

/** θ of a version, fetched once while it is one of the last few. @throws Error when it is not what its name says. */
async function modelOf({ path, hash, version }: Version): Promise<Model> {
  const known = models.get(hash);
  if (known !== undefined) {
    models.delete(hash);
    models.set(hash, known);
    return known;
  }
  post({ type: "loading", version });
  const bytes = await fetchBytes(path).finally(() => post({ type: "loading", version: null }));
  const spec = parseModelSpec(readSafetensors(bytes).metadata["model"]);
  const layout = layoutOf(gptTensors(spec));
  const params = new Float32Array(layout.length);
  readParams(bytes, layout, params);
  if (hashParams(params) !== hash) throw new Error(`step ${version} did not arrive whole; try again`);
  const model = { spec, layout, params };
  models.set(hash, model);
  for (const oldest of models.keys()) {
    if (models.size <= MAX_MODELS) break;
    models.delete(oldest);
  }
  return model;
}

async function fetchTokenizer(url: string): Promise<Tokenizer> {
  return readTokenizerJson(JSON.parse(new TextDecoder().decode(await fetchBytes(url))));
}

async function fetchBytes(url: string): Promise<Uint8Array> {
  const response = await fetch(url);
  if (response.status === 404) throw new Error("this checkpoint is not kept any more; choose another one");
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

function embeddingOf({ spec, layout, params }: Model): Embedding {
  const slot = layout.slots.find(({ name }) => name === "wte.weight");
  if (slot === undefined) throw new Error("the model has no embedding table");
  return { values: params.subarray(slot.offset, slot.offset + slot.size), width: spec.width };
}

/** The token for a word: itself, or with a space before it as in a text, or else its first piece. */
function tokenOf(words: Tokenizer, text: string): number {
  const [first, ...rest] = words.encode(text);
  if (first === undefined) throw new Error("a word is missing");
  if (rest.length === 0) return first;
  try {
    const spaced = words.encode(` ${text}`);
    if (spaced.length === 1) return spaced[0] ?? first;
  } catch {
    // A vocabulary without a space.
  }
  return first;
}

/** The token as text; bytes that are no whole character in hexadecimal. */
function labelOf(words: Tokenizer, token: number): string {
  const stream = textStream(words);
  const text = stream.push(token) + stream.end();
  if (!text.includes("\uFFFD")) return text;
  return Array.from(words.bytesOf(token), (byte) => `‹${byte.toString(16).padStart(2, "0")}›`).join("");
}
