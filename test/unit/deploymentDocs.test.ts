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

/** Each command of the page, and where it is run: the file, and what stands there. */
const exercised: readonly (readonly [command: RegExp, file: string, ...evidence: string[]])[] = [
  [/^npm ci$/, ".ci/run", "\nnpm ci\n"],
  [/^npm start -- /, "test/support/coordinatorProcess.ts", '"coordinator/main.ts"'],
  [/^(NODE_EXTRA_CA_CERTS=root.crt )?npm run worker -- --url \S+ --token SECRET$/, "test/container/compose.test.ts", "NODE_EXTRA_CA_CERTS: rootCertificate", '"worker-node/main.ts"'], // prettier-ignore
  [/^docker build -f deploy\/(coordinator|worker-node).Dockerfile -t /, "test/support/containers.ts", "deploy/${file}.Dockerfile", '"build", "-q"'], // prettier-ignore
  [/^docker run -d --name coordinator --read-only /, "deploy/testing/cluster.ts", "ReadonlyRootfs = true", '"--stay"'],
  [/^docker (exec coordinator|compose .* exec -T coordinator) node coordinator\/export.js /, "test/container/compose.test.ts", '"coordinator/export.js"'], // prettier-ignore
  [/^docker cp coordinator:\/data\/model /, "test/container/compose.test.ts", ":/data/model`"],
  [/^(cat >deploy\/\.env <<END|END|MANYHANDS_\w+=.*)$/, "test/container/compose.test.ts", "MANYHANDS_TOKEN: token", "MANYHANDS_FLAGS:"], // prettier-ignore
  [/^docker compose -f deploy\/compose.yaml build$/, "test/container/compose.test.ts", 'compose("build")'],
  [/^docker compose -f deploy\/compose.yaml --profile tls up -d/, "test/container/compose.test.ts", '"--profile", "tls"', '"up", "-d", "--no-build"'], // prettier-ignore
  [/^docker compose -f deploy\/compose.yaml logs --tail /, "test/container/compose.test.ts", '"logs", "--tail"'],
  [/^curl -s http:\/\/127.0.0.1:8080\/status$/, "test/container/compose.test.ts", "/status`"],
  [/^docker cp "\$\(docker compose .* caddy\)":.*root.crt root.crt$/, "test/container/compose.test.ts", '"ps", "-q", "caddy"', "local/root.crt`"], // prettier-ignore
  [
    /^helm (lint|install demo) deploy\/helm\/manyhands /,
    "test/integration/deploy/helm.test.ts",
    '["template", "demo", chart',
  ],
  [/^kubectl port-forward service\/demo-coordinator 8080$/, "test/integration/deploy/helm.test.ts", "and the service the port"], // prettier-ignore
];

test("each command of the page is run by a test, and no test is named for one that is gone", () => {
  expect(commands.filter((line) => exercised.filter(([command]) => command.test(line)).length !== 1)).toEqual([]);
  expect(exercised.filter(([command]) => !commands.some((line) => command.test(line)))).toEqual([]);
  const missing = exercised.filter(([, file, ...evidence]) => {
    const text = readFileSync(file, "utf8");
    return !evidence.every((part) => text.includes(part));
  });
  expect(missing).toEqual([]);
});
