import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { parseArguments } from "../../../coordinator/settings/config.ts";
import { loadRun, resolveRun, storeRun, type ResolvedRun } from "../../../coordinator/settings/resolveRun.ts";

const folder = mkdtempSync(join(tmpdir(), "manyhands-runs-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const resolveWith = (...argv: string[]): Promise<ResolvedRun> =>
  resolveRun(parseArguments(["--data-dir", join(folder, "data"), "--runs-dir", join(folder, "runs"), ...argv]));

const prose = "It was the best of times, it was the worst of times. ".repeat(60);
const text = file("tale.txt", prose);
const common = ["--text", text, "--tokenizer", "char", "--context", "16"];

test("a new run has its model's vocabulary from the corpus, and writes nothing but that corpus", async () => {
  const run = await resolveWith(...common);
  expect(run.spec).toMatchObject({ name: "tale-custom", model: { vocabulary: new Set(prose).size, context: 16 } });
  expect(run).toMatchObject({ resumed: false, changes: [], runDir: join(folder, "runs", "tale-custom") });
  expect(readdirSync(folder).toSorted()).toEqual(["data", "tale.txt"]);
});

test("a stored run is resumed by its name alone, even when the text is gone", async () => {
  const first = await resolveWith(...common, "--run", "a", "--steps", "30");
  await storeRun(first);
  expect(readdirSync(first.runDir).toSorted()).toEqual(["manifest.json", "run.yaml", "tokenizer.json"]);
  await expect(loadRun(first.runDir)).resolves.toEqual({ spec: first.spec, manifest: first.corpus.manifest });

  renameSync(text, `${text}.away`);
  const again = await resolveWith("--run", "a");
  renameSync(`${text}.away`, text);
  expect(again).toMatchObject({ resumed: true, changes: [], spec: first.spec, corpus: { dir: first.corpus.dir } });
  const grown = await resolveWith(...common, "--run", "a", "--steps", "60");
  expect(grown).toMatchObject({ resumed: true, changes: ["steps 30 → 60"] });
});

test("a run goes on with the tokens it was started on and no others", async () => {
  await storeRun(await resolveWith(...common, "--run", "b"));
  const other = file("other.txt", prose.replaceAll("best", "very best"));
  await expect(resolveWith("--text", other, "--run", "b")).rejects.toThrow(/--text: the tokens of other.txt \(char, \d+\) are not those of tale.txt \(char, \d+\), on which the run "b"/); // prettier-ignore
  await expect(resolveWith("--tokenizer", "bpe:300", "--run", "b")).rejects.toThrow(
    /--tokenizer: the tokens of tale.txt \(bpe, \d+\) are not those of tale.txt \(char/,
  );
  await expect(resolveWith(...common, "--batch", "8", "--run", "b")).rejects.toThrow(/--batch: batch would be 8/);
});

test("run.yaml gives what flags do not, relative to itself", async () => {
  mkdirSync(join(folder, "conf"), { recursive: true });
  const config = file("conf/run.yaml", "name: c\ndata: { text: ../tale.txt, tokenizer: char }\nmodel: { context: 8 }\nsteps: 5"); // prettier-ignore
  const run = await resolveWith("--config", config, "--steps", "6");
  expect(run.spec).toMatchObject({ name: "c", steps: 6, model: { context: 8 }, data: { text: [text] } });
});

test("bad input is refused before anything is written", async () => {
  const short = file("short.txt", "too short");
  const before = readdirSync(join(folder, "data"));
  const cases: [string[], RegExp][] = [
    [["--text", short, "--tokenizer", "char"], /^--text .*short.txt: too short, 8 tokens to train on and 1 to validate on; must be at least 65 of each/], // prettier-ignore
    [["--text", join(folder, "none.txt")], /^--text .*none.txt: no such file or folder; must be a readable file/],
    [["--config", join(folder, "none.yaml")], /^--config .*none.yaml: no such file or folder; must be a readable YAML/],
    [["--config", file("bad.yaml", "steps: 3\nbatch: {")], /bad.yaml line 2: .*must be valid YAML/],
    [["--data", folder], /manifest.json: no such file or folder; must be a folder made by prepare-data/],
    [[...common, "--runs-dir", join(text, "runs")], /^--runs-dir .*: a part of the path is not a folder|is not a folder; must be a folder/], // prettier-ignore
    [[...common, "--data-dir", join(text, "data")], /^--data-dir .*: a part of the path is not a folder/],
  ];
  for (const [argv, message] of cases) await expect(resolveWith("--run", "bad", ...argv), argv.join(" ")).rejects.toThrow(message); // prettier-ignore
  expect(readdirSync(join(folder, "data"))).toEqual(before);
  expect(readdirSync(join(folder, "runs"))).not.toContain("bad");
});

test("a missing run is told which there are", async () => {
  await expect(loadRun(join(folder, "runs", "zzz"))).rejects.toThrow(/no run in .*zzz; must be one of a, b/);
});
