import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { afterAll, expect, test } from "vitest";
import { loadCorpus, loadTokenizer, prepareCorpus, type Corpus } from "../../../coordinator/corpus/corpus.ts";
import { readBin } from "../../../shared/data/bin.ts";
import { tokenSource, type TokenSource } from "../../../shared/data/tokenSource.ts";
import { decode, END_OF_TEXT } from "../../../shared/tokenizer/tokenizer.ts";

const folder = mkdtempSync(join(tmpdir(), "manyhands-data-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const prepareData = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, ["coordinator/prepareData.ts", ...args], { encoding: "utf8" });

const source = ({ dir, manifest }: Corpus, split: "train" | "val"): TokenSource =>
  tokenSource({
    split: manifest.splits[split],
    pieceBytes: manifest.pieceBytes,
    readRange: (name, start, end) => Promise.resolve(readFileSync(join(dir, name)).subarray(start, end)),
  });

const allTokens = (corpus: Corpus, split: "train" | "val"): Promise<Uint16Array> => {
  const whole = source(corpus, split);
  return whole.read(0, whole.tokens);
};

const verses = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind — to suffer\n".repeat(40);

test("a text comes back from the shards of a character corpus, nine tenths in train", async () => {
  const corpus = await prepareCorpus({ texts: [file("hamlet.txt", verses)], tokenizer: "char", dataDir: folder });
  const tokenizer = await loadTokenizer(corpus);
  const [train, val] = [await allTokens(corpus, "train"), await allTokens(corpus, "val")];
  const characters = Array.from(verses);
  expect(train.length).toBe(Math.floor(characters.length * 0.9));
  expect(decode(tokenizer, train) + decode(tokenizer, val)).toBe(verses);
  expect(tokenizer.endOfText).toBeUndefined();
  expect(corpus.manifest.tokenizer.vocabulary).toBe(new Set(characters).size);
});

test("the same texts and tokenizer are prepared once; others, or in another order, elsewhere", async () => {
  const [a, b] = [file("a.txt", verses), file("b.txt", `${verses}And`)];
  const prepare = async (texts: string[], tokenizer: string): Promise<string> =>
    (await prepareCorpus({ texts, tokenizer, dataDir: join(folder, "cache") })).dir;
  const first = await prepare([a, b], "bpe:300");
  const stages: string[] = [];
  await prepareCorpus({ texts: [a, b], tokenizer: "bpe:300", dataDir: join(folder, "cache"), onProgress: ({ stage }) => stages.push(stage) }); // prettier-ignore
  expect(stages).toEqual(["reading", "ready"]);
  const others = await Promise.all([prepare([b, a], "bpe:300"), prepare([a, b], "bpe:301"), prepare([a], "bpe:300")]);
  expect(new Set([first, ...others]).size).toBe(4);
});

test("a cached corpus that was damaged is prepared again", async () => {
  const options = { texts: [file("damaged.txt", verses)], tokenizer: "char", dataDir: join(folder, "damaged") };
  const { dir } = await prepareCorpus(options);
  writeFileSync(join(dir, "val-00000.bin"), "short");
  await prepareCorpus(options);
  await expect(loadCorpus(dir)).resolves.toMatchObject({ manifest: { name: "damaged.txt" } });
});

test("each of several documents starts with the end-of-text token", async () => {
  const texts = [file("one.txt", verses), file("two.txt", verses)];
  for (const tokenizer of ["char", "bpe:300"]) {
    const corpus = await prepareCorpus({ texts, tokenizer, dataDir: folder });
    const text = decode(await loadTokenizer(corpus), await allTokens(corpus, "train"));
    expect(text.startsWith(`${END_OF_TEXT}To be`), tokenizer).toBe(true);
    expect(text.split(END_OF_TEXT)).toHaveLength(3);
  }
});

test("the default corpus: 233 addresses, tokens that @huggingface/tokenizers decodes to the same text", async () => {
  const corpus = await prepareCorpus({ texts: undefined, tokenizer: "bpe:1024", dataDir: folder });
  expect(corpus.manifest).toMatchObject({ name: "State of the Union addresses, 1790–2021", tokenizer: { vocabulary: 1024 } }); // prettier-ignore
  const { train, val } = corpus.manifest.splits;
  expect(val.tokens / (train.tokens + val.tokens)).toBeCloseTo(0.1, 1);
  const theirs = new HuggingFaceTokenizer(JSON.parse(readFileSync(join(corpus.dir, "tokenizer.json"), "utf8")), {});
  const ids = await source(corpus, "val").read(0, 20_000);
  const text = decode(await loadTokenizer(corpus), ids);
  expect(text).toContain("Fellow");
  expect(theirs.decode(Array.from(ids), { clean_up_tokenization_spaces: false })).toBe(text);
  expect(theirs.encode(text).ids.slice(0, 19_990)).toEqual(Array.from(ids).slice(0, 19_990));
});

test("prepare-data writes a folder and token files, reads those back, and leaves nothing beside it", () => {
  const out = join(folder, "out");
  const text = file("cli.txt", verses);
  const made = prepareData("--text", text, "--tokenizer", "bpe:280", "--out", out, "--write-bin", "llm.c");
  expect(made).toMatchObject({ status: 0 });
  expect(made.stdout).toContain("bpe, vocabulary 280");
  expect(readdirSync(out).toSorted()).toEqual(["manifest.json", "tokenizer.json", "train-00000.bin", "train.bin", "val-00000.bin", "val.bin"]); // prettier-ignore
  expect(readBin(readFileSync(join(out, "train.bin"))).format).toBe("llm.c");

  const again = join(folder, "again");
  const files = ["--bin", join(out, "train.bin"), join(out, "val.bin"), "--tokenizer", join(out, "tokenizer.json")];
  expect(prepareData(...files, "--out", again)).toMatchObject({ status: 0 });
  for (const name of ["train-00000.bin", "val-00000.bin", "tokenizer.json"])
    expect(readFileSync(join(again, name)).equals(readFileSync(join(out, name))), name).toBe(true);
  expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
});

test("a vocabulary that the text cannot fill is told", () => {
  const made = prepareData("--text", file("few.txt", "abcabcabcdef "), "--tokenizer", "bpe:1024", "--data-dir", folder);
  expect(made.stdout).toMatch(/note +the text is too short for bpe:1024: its vocabulary is 2\d\d/);
});

test("bad input is one line that names the setting, its value and what is allowed, with exit code 2 and no folder", () => {
  const out = join(folder, "never");
  const good = file("good.txt", verses);
  const cases: [string[], string][] = [
    [["--tokenzier", "char"], "unknown flag '--tokenzier' (Did you mean --tokenizer?)"],
    [["--text", join(folder, "missing.txt")], `--text ${folder}/missing.txt: no such file or folder; must be`],
    [["--text", folder], `--text ${folder}: is a folder, not a file`],
    [["--text", file("empty.txt", "")], `empty.txt: the file is empty; must be`],
    [["--text", file("latin1.txt", Uint8Array.of(0x63, 0xe9))], "latin1.txt: is not UTF-8; must be"],
    [["--text", file("x.txt", "x")], "x.txt: too short, 0 tokens to train on and 1 to validate on; must be at least 2"],
    [
      ["--text", good, "--tokenizer", "bpe:65536"],
      "--tokenizer bpe:65536: must be char, bpe:N with N from 257 to 65535",
    ],
    [["--text", good, "--tokenizer", "words"], "--tokenizer words: must be char"],
    [["--text", good, "--tokenizer", "none.json"], "--tokenizer none.json: no such file"],
    [["--text", good, "--tokenizer", file("bad.json", "{")], "bad.json: Expected property name"],
    [["--bin", file("odd.bin", "abc"), "--tokenizer", "char"], "--tokenizer char: token files need the tokenizer.json"],
    [["--text", good, "--bin", good], "not together with --text"],
    [["--write-bin", "numpy"], "Allowed choices are nanogpt, llm.c"],
  ];
  for (const [args, message] of cases) {
    const { status, stderr, stdout } = prepareData(...args, "--out", out);
    const lines = stderr.trimEnd().split("\n").filter((line) => !line.endsWith("…")); // prettier-ignore
    expect({ status, stdout, lines: lines.length }, args.join(" ")).toEqual({ status: 2, stdout: "", lines: 1 });
    expect(lines[0]).toContain(message);
  }
  expect(readdirSync(folder)).not.toContain("never");

  const occupied = prepareData("--text", good, "--out", folder);
  expect(occupied).toMatchObject({ status: 2, stderr: `error: --out ${folder}: is not empty; must be a new or an empty folder\n` }); // prettier-ignore
  const blocked = prepareData("--text", good, "--out", join(good, "below"));
  expect(blocked.status).toBe(2);
  expect(blocked.stderr).toContain("a part of the path is not a folder");
});
