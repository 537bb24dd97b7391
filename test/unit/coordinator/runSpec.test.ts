import { expect, test } from "vitest";
import { parseArguments } from "../../../coordinator/settings/config.ts";
import { parseRunFile } from "../../../coordinator/settings/runFile.ts";
import { changesOnResume, draftSpec, overlay, processSettings, requireConsistent, scheduleOf, specSettings } from "../../../coordinator/settings/runSpec.ts"; // prettier-ignore
import type { Given } from "../../../coordinator/settings/settings.ts";
import { learningRateAt } from "../../../shared/numerics/schedule.ts";

const flags = (...argv: string[]): Given => parseArguments(argv).given;
const yaml = (text: string): Given => parseRunFile(text, "/w/run.yaml");
const storedAs = (given: Given): Given =>
  new Map(Array.from(specSettings(draftSpec(given)), ([path, value]) => [path, { value, where: `stored ${path}` }]));

test("a flag counts more than run.yaml, run.yaml more than the stored run, that more than a default", () => {
  const stored = storedAs(flags("--steps", "5", "--batch", "8", "--learning-rate", "0.5", "--weight-decay", "0.3"));
  const draft = draftSpec(overlay(yaml("steps: 20\noptimizer: { learningRate: 0.7 }"), flags("--steps", "30")), stored);
  expect(draft).toMatchObject({ steps: 30, batch: 8, optimizer: { learningRate: 0.7, weightDecay: 0.3, beta2: 0.99 } });
});

test("the defaults are nanoGPT's CPU model and optimizer at a batch of 96", () => {
  const draft = draftSpec(new Map());
  expect(draft).toMatchObject({
    name: "sotu-tiny",
    data: { text: null, folder: null, tokenizer: "bpe:1024" },
    model: { kind: "gpt", layers: 4, heads: 4, width: 128, context: 64, bias: false, dropout: 0 },
    steps: 450,
    batch: 96,
    unit: 12,
    codec: "f32",
    activations: "f32",
    strict: true,
    admission: true,
    guard: "refuse",
    optimizer: { learningRate: 2e-3, minLearningRate: 2e-4, warmup: 45, beta1: 0.9, beta2: 0.99, weightDecay: 0.1, clipNorm: 1 }, // prettier-ignore
  });
  expect(scheduleOf(draft)).toEqual({ kind: "cosine", learningRate: 2e-3, minLearningRate: 2e-4, warmupSteps: 45, totalSteps: 450 }); // prettier-ignore
});

test("defaults follow what was chosen: unit the batch, warm-up the steps, strict the host, name the data and model", () => {
  expect([1, 6, 8, 12, 20, 48].map((batch) => draftSpec(flags("--batch", String(batch))).unit)).toEqual([
    1, 1, 2, 3, 5, 12,
  ]);
  expect(draftSpec(flags("--steps", "50")).optimizer.warmup).toBe(5);
  expect(draftSpec(flags("--host", "0.0.0.0")).strict).toBe(false);
  expect(draftSpec(flags("--host", "0.0.0.0", "--strict")).strict).toBe(true);
  expect(draftSpec(flags("--text", "/x/My Book (2).txt", "--preset", "small")).name).toBe("My-Book-2--small");
  expect(draftSpec(flags("--data", "data/shakespeare/", "--layers", "2")).name).toBe("shakespeare-custom");
  const { name } = draftSpec(flags("--text", "/x/日本語.txt"));
  expect(() => parseArguments(["--run", name])).not.toThrow();
  expect(processSettings(flags("--port", "0"), 6)).toMatchObject({ workers: 6, port: 0, threads: 1, token: null });
});

test("explicit sizes refine a preset", () => {
  const { model } = draftSpec(flags("--preset", "small", "--layers", "2", "--context", "32", "--bias"));
  expect(model).toMatchObject({ layers: 2, heads: 6, width: 384, context: 32, bias: true });
});

test("settings that contradict each other are refused, and the one that was given is named", () => {
  const cases: [Given, string][] = [
    [flags("--heads", "3"), "--heads 3: must divide the width, 128"],
    [flags("--width", "130"), "--width 130: must be a multiple of the heads, 4"],
    [yaml("steps: 1\nmodel: { heads: 5 }"), "/w/run.yaml line 2: model.heads 5: must divide the width, 128"],
    [flags("--unit", "5"), "--unit 5: must divide the batch, 96"],
    [flags("--batch", "10", "--unit", "4"), "--unit 4: must divide the batch, 10"],
    [flags("--min-learning-rate", "0.1"), "--min-learning-rate 0.1: must be at most the learning rate, 0.002"],
    [flags("--data", "d", "--tokenizer", "char"), "--tokenizer: not together with the folder d; must be left out"],
    [yaml("data: { folder: d, text: t }"), "line 1: data.text: not together with the folder /w/d"],
  ];
  for (const [given, message] of cases) expect(() => requireConsistent(draftSpec(given), given)).toThrow(message);
});

test("data named by a flag replaces all data that run.yaml names", () => {
  const { data } = draftSpec(overlay(yaml("data: { text: t, tokenizer: char }"), flags("--data", "d")));
  expect(data).toMatchObject({ text: null, folder: "d" });
  const other = draftSpec(overlay(yaml("data: { folder: d }"), flags("--text", "t")));
  expect(other.data).toMatchObject({ text: ["t"], folder: null });
});

test("the same command resumes without changes; a run may grow and be steered", () => {
  const command = flags("--preset", "small", "--steps", "100", "--seed", "3");
  const stored = storedAs(command);
  const resume = (given: Given): readonly string[] =>
    changesOnResume(draftSpec(given, stored), draftSpec(stored), given);
  expect(resume(command)).toEqual([]);
  expect(resume(flags())).toEqual([]);
  expect(resume(flags("--steps", "200", "--learning-rate", "0.01", "--codec", "i8", "--activations", "f16"))).toEqual([
    "steps 100 → 200",
    "codec f32 → i8",
    "activations f32 → f16",
    "optimizer.learningRate 0.002 → 0.01",
  ]);
});

test("what a run cannot change is refused in a line that names it, both values and the way out", () => {
  const stored = storedAs(flags("--run", "r", "--steps", "100"));
  const resume = (...argv: string[]): unknown =>
    changesOnResume(draftSpec(flags(...argv), stored), draftSpec(stored), flags(...argv));
  expect(() => resume("--preset", "small")).toThrow('--preset: model.layers would be 6, the run "r" has 4; must stay, or give another --run NAME'); // prettier-ignore
  expect(() => resume("--layers", "5")).toThrow("--layers: model.layers would be 5");
  expect(() => resume("--batch", "24")).toThrow('--batch: batch would be 24, the run "r" has 96');
  expect(() => resume("--seed", "1")).toThrow("--seed: seed would be 1");
  expect(() => resume("--sampling", "random")).toThrow("--sampling: sampling would be random");
  expect(() => resume("--dropout", "0.1")).toThrow("--dropout: model.dropout would be 0.1");
  expect(() => resume("--steps", "99")).toThrow("--steps 99: must be at least 100");
});

test("wsd decays over its last steps", () => {
  const schedule = scheduleOf(
    draftSpec(flags("--schedule", "wsd", "--steps", "100", "--decay", "10", "--warmup", "0")),
  );
  expect(learningRateAt(schedule, 89)).toBe(2e-3);
  expect(learningRateAt(schedule, 95)).toBeLessThan(2e-3);
});
