import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseArguments } from "../../../coordinator/settings/config.ts";
import { openLedger } from "../../../coordinator/store/ledger.ts";
import { resolveRun, storeRun, type ResolvedRun } from "../../../coordinator/settings/resolveRun.ts";
import { writeSnapshot } from "../../../coordinator/store/snapshot.ts";
import { readParams } from "../../../shared/codec/paramsFile.ts";
import { readSafetensors } from "../../../shared/codec/safetensors.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { initialParams } from "../../../shared/model/init.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import { layoutOf, type ParamLayout } from "../../../shared/numerics/layout.ts";
import { gptLossF64 } from "../../support/gptF64.ts";

const folder = mkdtempSync(join(tmpdir(), "manyhands-export-"));
const runsDir = join(folder, "runs");
afterAll(() => rmSync(folder, { recursive: true }));

const program = (file: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, [file, ...args, "--runs-dir", runsDir], { encoding: "utf8" });
const generate = (...args: string[]): ReturnType<typeof program> => program("worker-node/generate.ts", ...args);
const exportRun = (...args: string[]): ReturnType<typeof program> => program("coordinator/export.ts", ...args);

let run: ResolvedRun;
let layout: ParamLayout;
let params: Float32Array;

/** A run as it lies on disk after a few steps, with parameters far from their initial values. */
beforeAll(async () => {
  const text = join(folder, "sea.txt");
  writeFileSync(text, "Call me Ishmael. Some years ago, never mind how long precisely. ".repeat(30));
  const flags = `--run sea --text ${text} --tokenizer bpe:270 --layers 2 --heads 2 --width 8 --context 12`;
  run = await resolveRun(
    parseArguments([...flags.split(" "), "--runs-dir", runsDir, "--data-dir", join(folder, "data")]),
  );
  await storeRun(run);
  layout = layoutOf(gptTensors(run.spec.model));
  params = initialParams(run.spec.model, layout, 3);
  params.forEach((value, i) => (params[i] = 5 * value));
  const dir = join(run.runDir, "snapshots");
  mkdirSync(dir);
  const hash = hashParams(params);
  const hashes = { params: hash, master: hash, m: hash, v: hash };
  const state = { params, master: params, m: params, v: params, steps: 7, hashes };
  await writeSnapshot({ dir, version: 7, layout, state, metadata: { model: JSON.stringify(run.spec.model) } });
  writeFileSync(join(dir, `9-${"0".repeat(16)}.safetensors`), "torn");
  const ledger = openLedger(join(run.runDir, "ledger.sqlite"));
  const round = { origin: 0, samples: 48, tokens: 576, gradientNorm: 1, learningRate: 1e-3, hash, baseHash: hash, journal: 0, record: 0, committedMs: 0, roundMs: 1, computeMs: 1, commitMs: 0, workers: 1, bytesIn: 0, bytesOut: 0 }; // prettier-ignore
  const account = { issued: 0, leases: [], returned: [] };
  ledger.commitRound({ ...round, version: 6, lossSum: 2880 }, [], account);
  ledger.commitRound({ ...round, version: 7, lossSum: 1728 }, [], account);
  ledger.commitRound({ ...round, version: 8, lossSum: 576 }, [], account);
  ledger.recordEvaluation({ version: 7, samples: 10, tokens: 120, lossSum: 300, atMs: 0 });
  ledger.recordEvaluation({ version: 8, samples: 10, tokens: 120, lossSum: 120, atMs: 0 });
  ledger.close();
});

test("generate continues a prompt from the newest whole snapshot, the same for the same seed", () => {
  const flags = ["--run", "sea", "--prompt", "Call me", "--tokens", "30", "--engine", "onnx"];
  const first = generate(...flags, "--seed", "1");
  expect(first).toMatchObject({ status: 0 });
  expect(first.stdout.startsWith("Call me")).toBe(true);
  expect(first.stdout.length).toBeGreaterThan(30);
  expect(first.stderr).toMatch(
    /^using 7-[0-9a-f]{16}.safetensors, because 9-0{16}.safetensors: safetensors file of 4 bytes\n$/,
  );
  expect(generate(...flags, "--seed", "1").stdout).toBe(first.stdout);
  expect(generate(...flags, "--seed", "2").stdout).not.toBe(first.stdout);
});

test("export writes a GPT-2 that is the same function, with its tokenizer and the run's figures up to the snapshot", () => {
  const out = join(folder, "out");
  const { status, stderr } = exportRun("--run", "sea", "--out", out);
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringMatching(/^using the snapshot of step 7, because .*9-0{16}.safetensors: safetensors file of 4 bytes\n$/) as string }); // prettier-ignore
  expect(readdirSync(out).toSorted()).toEqual(["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]); // prettier-ignore

  const file = readFileSync(join(out, "model.safetensors"));
  const { metadata, tensors } = readSafetensors(file);
  expect(metadata).toEqual({ format: "pt" });
  // Names and shapes as in the published gpt2: Conv1D weights are [in, out], and every norm and projection has a bias.
  expect(Object.fromEntries(Array.from(tensors, ([name, { shape }]) => [name, shape]))).toMatchObject({
    "wte.weight": [270, 8],
    "wpe.weight": [12, 8],
    "h.1.attn.c_attn.weight": [8, 24],
    "h.1.attn.c_attn.bias": [24],
    "h.1.mlp.c_proj.weight": [32, 8],
    "h.0.ln_1.bias": [8],
    "ln_f.bias": [8],
  });
  expect(tensors.size).toBe(2 + 2 * 12 + 2);

  const model = { ...run.spec.model, bias: true };
  const exported = layoutOf(gptTensors(model));
  const theirs = new Float32Array(exported.length);
  readParams(file, exported, theirs);
  const window = Uint16Array.from({ length: 13 }, (_, i) => (i * 37) % 270);
  const loss = (spec: typeof model, at: ParamLayout, theta: Float32Array): number =>
    gptLossF64(spec, at, Float64Array.from(theta), window.subarray(0, 12), window.subarray(1));
  expect(loss(model, exported, theirs)).toBe(loss(run.spec.model, layout, params));

  const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8")) as Record<string, unknown>;
  expect(config).toMatchObject({ model_type: "gpt2", activation_function: "gelu_new", n_layer: 2, n_head: 2, n_embd: 8, n_positions: 12, vocab_size: 270, eos_token_id: 269 }); // prettier-ignore
  const tokenizer = new HuggingFaceTokenizer(JSON.parse(readFileSync(join(out, "tokenizer.json"), "utf8")), {});
  expect(tokenizer.decode(tokenizer.encode("Call me").ids)).toBe("Call me");
  const card = readFileSync(join(out, "README.md"), "utf8");
  expect(card).toContain("| tokens trained on | 1,152, from a text of");
  expect(card).toContain("| loss of the last training step | 3.0000 nats per token |");
  expect(card).toContain("| validation loss | 2.5000 nats per token (120 tokens, at step 7) |");
  expect(card).toContain("trained without biases");
});

test("bad input is one line that names the setting, with exit code 2, and writes nothing", () => {
  const cases: [ReturnType<typeof program>, string][] = [
    [generate("--run", "none"), "--run none: no snapshots in "],
    [generate("--run", "sea", "--tokens", "0"), "It must be a whole number from 1 to 1000000"],
    [generate("--run", "sea", "--temperature", "-1"), "It must be a number from 0 to 100"],
    [generate("--temprature", "1"), "unknown option '--temprature' (Did you mean --temperature?)"],
    [exportRun("--run", "none", "--out", join(folder, "never")), "must be one of sea"],
    [exportRun("--run", "sea"), "--out is missing"],
    [exportRun("--out", join(folder, "never")), "--run is missing; must be one of sea"],
    [exportRun("--run", "sea", "--out", folder), `--out ${folder}: is not empty`],
    [exportRun("--run", "sea", "--out", join(folder, "sea.txt", "x")), "a part of the path is not a folder"],
  ];
  for (const [{ status, stdout, stderr }, message] of cases) {
    const lines = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("using the snapshot"));
    expect({ status, stdout, lines: lines.length }, stderr).toEqual({ status: 2, stdout: "", lines: 1 });
    expect(lines[0]).toContain(message);
  }
  expect(readdirSync(folder)).not.toContain("never");
});
