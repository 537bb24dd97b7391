/** @file run.yaml: read with the line of every setting, so that a mistake can be pointed at; written when a run begins. */

import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { isMap, isScalar, LineCounter, parseDocument, stringify, type Node, type Pair } from "yaml";
import { fileProblem, OperatorError } from "../../shared/operatorError.ts";
import { checkSetting, settingPaths, settings, type Given, type SettingPath } from "./settings.ts";

/** Settings that name files: relative to the run.yaml that says so. */
const fileSettings: ReadonlySet<SettingPath> = new Set(["data.text", "data.folder", "dataDir", "runsDir"]);

/** @throws OperatorError with the line, for what is not YAML, not a setting or not allowed. */
export async function readRunFile(path: string): Promise<Given> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new OperatorError(`--config ${path}: ${fileProblem(error) ?? String(error)}; must be a readable YAML file`);
  });
  return parseRunFile(text, path);
}

/** @param path for messages, and for what relative file names are relative to. */
export function parseRunFile(text: string, path: string): Given {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number): string => `${path} line ${Math.max(1, lines.linePos(offset).line)}`;
  const [problem] = [...document.errors, ...document.warnings];
  if (problem) throw new OperatorError(`${at(problem.pos[0])}: ${problem.message}; must be valid YAML`);
  const given = new Map<SettingPath, { value: unknown; where: string }>();
  if (document.contents === null) return given;
  if (!isMap(document.contents)) throw new OperatorError(`${at(0)}: must be settings, such as "steps: 1000"`);
  collect(document.contents.items, "", (name, node, offset) => {
    const where = `${at(offset)}: ${name}`;
    const below = settingPaths.filter((path) => path.startsWith(`${name}.`)).map((path) => path.slice(name.length + 1));
    if (below.length > 0) throw new OperatorError(`${where}: must have settings below it: ${below.join(", ")}`);
    if (!isSetting(name)) throw new OperatorError(`${where}: unknown setting; must be one of ${keysBeside(name)}`);
    const value: unknown = toValue(name, node === null ? null : node.toJS(document));
    checkSetting(name, value, where);
    const namesFiles = fileSettings.has(name) || (name === "data.tokenizer" && String(value).endsWith(".json"));
    given.set(name, { value: namesFiles ? resolveFiles(value, dirname(path)) : value, where });
  });
  return given;
}

/** The settings as run.yaml, nested by their paths. */
export function formatRunFile(values: ReadonlyMap<SettingPath, unknown>, comment: string): string {
  const nested: Record<string, unknown> = {};
  for (const path of settingPaths) {
    if (!values.has(path)) continue;
    const [first = "", second] = path.split(".");
    if (second === undefined) nested[first] = values.get(path);
    else nested[first] = { ...(nested[first] as object | undefined), [second]: values.get(path) };
  }
  return `# ${comment}\n${stringify(nested)}`;
}

type Visit = (path: string, node: Node | null, offset: number) => void;

function collect(items: readonly Pair[], prefix: string, visit: Visit): void {
  for (const { key, value } of items as readonly Pair<Node, Node | null>[]) {
    const path = `${prefix}${isScalar(key) ? String(key.value) : key.toString()}`;
    const groups = settingPaths.some((setting) => setting.startsWith(`${path}.`));
    if (groups && isMap(value)) collect(value.items, `${path}.`, visit);
    else visit(path, value, key.range?.[0] ?? 0);
  }
}

function isSetting(path: string): path is SettingPath {
  return Object.hasOwn(settings, path);
}

/** The keys that are allowed where an unknown one stands. */
function keysBeside(path: string): string {
  const prefix = path.slice(0, path.indexOf(".") + 1);
  const keys = settingPaths
    .filter((setting) => setting.startsWith(prefix))
    .map((setting) => setting.slice(prefix.length).split(".")[0] ?? "");
  return [...new Set(keys)].join(", ");
}

/** One file name is a list of one; a name that looks like a number is still a name. */
function toValue(path: SettingPath, value: unknown): unknown {
  const { form } = settings[path];
  if (form === "list" && typeof value === "string") return [value];
  if (form === "text" && typeof value === "number") return String(value);
  return value;
}

function resolveFiles(value: unknown, folder: string): unknown {
  if (Array.isArray(value)) return value.map((file) => resolveFiles(file, folder));
  return typeof value === "string" ? resolve(folder, value) : value;
}
