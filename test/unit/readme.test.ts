import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseArguments } from "../../coordinator/settings/config.ts";
import { draftSpec, processSettings } from "../../coordinator/settings/runSpec.ts";
import { parseWorkerArguments } from "../../worker-node/config.ts";

const readme = readFileSync("README.md", "utf8");
const scripts = (JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> }).scripts;

/** Words of a shell command without quoting that matters. */
const words = (flags: string): string[] => [...flags.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? ""); // prettier-ignore

test("every npm command in the README exists", () => {
  const used = [...readme.matchAll(/npm (?:run ([a-z-]+)|(start|test))/g)].map(([, run, word]) => run ?? word ?? "");
  expect(used.length).toBeGreaterThan(8);
  expect(used.filter((name) => !(name in scripts))).toEqual([]);
});

test("every benchmark in the README exists", () => {
  const used = [...readme.matchAll(/npm run bench -- ([a-z]+)/g)].map(([, name]) => name ?? "");
  expect(used.length).toBeGreaterThan(2);
  expect(used.filter((name) => !existsSync(`test/bench/${name}.ts`))).toEqual([]);
});

test("the flags that the README shows are accepted", () => {
  const starts = [...readme.matchAll(/^npm start -- ([^#\n]*)/gm)].map(([, flags]) => words(flags ?? ""));
  expect(starts.length).toBeGreaterThan(1);
  for (const flags of starts) expect(() => parseArguments(flags)).not.toThrow();
  const workers = [...readme.matchAll(/^npm run worker -- ([^#\n]*)/gm)].map(([, flags]) => words(flags ?? ""));
  expect(workers.length).toBeGreaterThan(0);
  for (const flags of workers) expect(parseWorkerArguments(flags).url).toMatch(/^http/);
});

test("the address and the size of the default run are those that the README names", () => {
  expect(readme).toContain(`http://127.0.0.1:${processSettings(new Map(), 2).port}`);
  const { steps, model } = draftSpec(new Map());
  expect(model).toMatchObject({ layers: 4, width: 128 });
  expect(readme).toContain(`${steps} steps`);
});

test("every page and picture that the README links to is there", () => {
  const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => link ?? "").filter((link) => !link.startsWith("http")); // prettier-ignore
  expect(links.length).toBeGreaterThan(4);
  expect(links.filter((link) => !existsSync(link))).toEqual([]);
});
