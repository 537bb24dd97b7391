import { expect, test } from "vitest";
import { formatRunFile, parseRunFile } from "../../../coordinator/settings/runFile.ts";
import { draftSpec, specSettings } from "../../../coordinator/settings/runSpec.ts";

const parse = (text: string): Record<string, unknown> =>
  Object.fromEntries(Array.from(parseRunFile(text, "/work/run.yaml"), ([path, { value }]) => [path, value]));

test("settings are nested by topic, and files are relative to the file that names them", () => {
  const text = `
# a comment
name: 1790
data:
  text: [a.txt, ../b.txt]
  tokenizer: char
model: { preset: small, dropout: 0.1 }
optimizer:
  learningRate: 6e-4
steps: 20
evaluation: { samples: all }
workers: 2
runsDir: here
`;
  expect(parse(text)).toEqual({
    name: "1790",
    "data.text": ["/work/a.txt", "/b.txt"],
    "data.tokenizer": "char",
    "model.preset": "small",
    "model.dropout": 0.1,
    "optimizer.learningRate": 6e-4,
    steps: 20,
    "evaluation.samples": "all",
    workers: 2,
    runsDir: "/work/here",
  });
  expect(parse("data: { text: one.txt, tokenizer: mine/tokenizer.json }")).toEqual({
    "data.text": ["/work/one.txt"],
    "data.tokenizer": "/work/mine/tokenizer.json",
  });
  expect(parse("")).toEqual({});
});

test("a mistake is told with its line, its value and what is allowed", () => {
  const cases: [string, string | RegExp][] = [
    ["steps: 1\nbatch: many", "/work/run.yaml line 2: batch many: must be a whole number from 1 to 1000000"],
    ["steps: 1\nmodel:\n\tpreset: tiny", /^\/work\/run.yaml line 3: .*; must be valid YAML$/],
    ["steps: [1", /line 1: .*must be valid YAML/],
    ["steps: 1\nsteps: 2", /line 2: Map keys must be unique; must be valid YAML/],
    ["steps: 1\nstepz: 2", /line 2: stepz: unknown setting; must be one of name, about, data, model, seed, .*steps/],
    ["optimizer:\n  lr: 1", /line 2: optimizer.lr: unknown setting; must be one of learningRate, minLearningRate/],
    ["data: a.txt", "/work/run.yaml line 1: data: must have settings below it: text, folder, tokenizer"],
    ["model:\n  preset: huge", /line 2: model.preset huge: must be one of tiny/],
    ["port: 99999", /line 1: port 99999: must be a whole number from 0 to 65535/],
    ["strict: maybe", /line 1: strict maybe: must be true or false/],
    ["strict:", /line 1: strict null: must be true or false/],
    ["- steps", '/work/run.yaml line 1: must be settings, such as "steps: 1000"'],
    ["steps: !!binary aGk=", /line 1: /],
  ];
  for (const [text, message] of cases) expect(() => parseRunFile(text, "/work/run.yaml"), text).toThrow(message);
});

test("a run written as run.yaml is read as the same run", () => {
  const given = parseRunFile(
    "name: x\ndata: { text: a.txt, tokenizer: char }\nmodel: { preset: small, layers: 2, bias: true }\nsteps: 7\nstrict: false\nevaluation: { samples: all }\noptimizer: { epsilon: 1e-10, schedule: wsd }",
    "/work/run.yaml",
  );
  const draft = draftSpec(given);
  const text = formatRunFile(specSettings(draft), "a comment");
  expect(draftSpec(parseRunFile(text, "/runs/x/run.yaml"))).toEqual(draft);
  expect(text.startsWith("# a comment\nname: x\n")).toBe(true);
});
