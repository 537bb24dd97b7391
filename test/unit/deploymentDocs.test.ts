/** @file docs/deployment.md: its commands are those that the container, proxy and chart tests exercise, and nothing in it is made up. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { parseArguments } from "../../coordinator/settings/config.ts";
import { parseWorkerArguments } from "../../worker-node/config.ts";

const page = readFileSync("docs/deployment.md", "utf8");
const commands = [...page.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block = ""]) => block.trim().split("\n"));
const words = (text: string): string[] => text.trim().split(/\s+/);

test("coordinator and worker take the flags that the page gives them", () => {
  const starts = commands.flatMap((line) => /^npm start -- (.*)/.exec(line)?.[1] ?? []);
  const run = commands.flatMap((line) => /^docker run .* manyhands-coordinator (.*)/.exec(line)?.[1] ?? []);
  const compose = commands.flatMap((line) => /^MANYHANDS_FLAGS=(.*)/.exec(line)?.[1] ?? []);
  for (const list of [starts, run, compose]) expect(list.length).toBeGreaterThan(0);
  for (const flags of [...starts, ...run, ...compose]) expect(() => parseArguments(words(flags)), flags).not.toThrow();
  expect(() => parseArguments(["--stay", "--log", "json", "--trust-proxy", "10.0.0.0/8"])).not.toThrow();
  const workers = commands.flatMap((line) => /npm run worker -- (.*)/.exec(line)?.[1] ?? []);
  expect(workers.length).toBe(2);
  for (const flags of workers) expect(parseWorkerArguments(words(flags)).token).toBe("SECRET");
});

test("files, programs and scripts that the page names are there", () => {
  const links = [...page.matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => `docs/${link}`);
  expect(links.length).toBeGreaterThan(4);
  const files = page.match(/deploy\/[\w/.-]+\.(?:yaml|sh|Dockerfile|conf|ts)/g) ?? [];
  expect(files.length).toBeGreaterThan(8);
  expect([...links, ...files].filter((file) => !existsSync(file))).toEqual([]);
  const inImage = page.match(/coordinator\/\w+\.js/g) ?? [];
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  const bundled = Object.values(scripts).join(" ");
  expect(inImage.filter((file) => !bundled.includes(file.replace(/js$/, "ts")))).toEqual([]);
});

test("the environment of the Compose file, and its profiles, are those of the page", () => {
  const compose = readFileSync("deploy/compose.yaml", "utf8");
  const used = new Set(page.match(/MANYHANDS_(?!TOKEN)\w+/g));
  used.delete("MANYHANDS_LOG");
  expect(used.size).toBeGreaterThan(2);
  expect([...used].filter((name) => !compose.includes(`\${${name}`))).toEqual([]);
  const profiles = [...page.matchAll(/--profile (\w+)/g)].map(([, name]) => name);
  expect(profiles.filter((name) => !compose.includes(`profiles: [${name}]`))).toEqual([]);
});

test("values that the page sets are values of the chart", () => {
  const values = parse(readFileSync("deploy/helm/manyhands/values.yaml", "utf8")) as object;
  const set = [...page.matchAll(/--set ([\w.]+)=/g)].map(([, path]) => path ?? "");
  expect(set.length).toBeGreaterThan(2);
  const known = (path: string): boolean =>
    path.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], values) !== undefined; // prettier-ignore
  expect(set.filter((path) => !known(path))).toEqual([]);
});

test("what the page says that programs say, they say", () => {
  const source = ["coordinator", "worker-node", "shared/wire"].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts")).map((file) => readFileSync(`${folder}/${file}`, "utf8")),
  ).join("\n"); // prettier-ignore
  const section = page.slice(page.indexOf("## When it does not work"));
  const said = [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, text]) => text ?? "");
  expect(said.length).toBeGreaterThan(6);
  // Numbers and addresses are filled in; what stands between them is in the source.
  const parts = said.flatMap((text) => text.split(/…|\d+/)).map((text) => text.trim()).filter((text) => text.length > 3); // prettier-ignore
  expect(parts.filter((text) => !source.includes(text.replace(/^[,;] /, "")))).toEqual([]);
});
