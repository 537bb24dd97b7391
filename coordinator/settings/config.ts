/** @file The command line of `npm start`: flags to settings. Files are not looked at here. */

import { Command, Option } from "commander";
import { parse } from "yaml";
import { parseFlags } from "./flags.ts";
import { checkSetting, settingPaths, settings, type Given, type SettingPath } from "./settings.ts";

export type Settings = {
  /** A run.yaml; what it says counts less than the flags. */
  readonly configFile: string | undefined;
  readonly given: Given;
};

/** A command line can be read by every user of the machine, the environment cannot; and an image sets its own defaults there. */
const environment: Partial<Record<SettingPath, string>> = {
  token: "MANYHANDS_TOKEN",
  adminToken: "MANYHANDS_ADMIN_TOKEN",
  log: "MANYHANDS_LOG",
};

/** @param argv without the program's own name. @throws OperatorError for a flag that is unknown or whose value is not allowed. */
export function parseArguments(argv: readonly string[]): Settings {
  const program = new Command("npm start --").description(
    "Trains a transformer on this machine and every machine that joins. The same command resumes a stopped run.",
  );
  program.helpOption("-h, --help", "this list").helpGroup("Run");
  program.addOption(new Option("--config <file>", "a run.yaml with any of these settings").helpGroup("Run"));
  const options = new Map<SettingPath, Option>();
  for (const path of settingPaths) {
    const { flag, about, group } = settings[path];
    const option = new Option(flag, about).helpGroup(group);
    const variable = environment[path];
    if (variable !== undefined) option.env(variable);
    options.set(path, option);
    program.addOption(option);
    if (option.isBoolean()) program.addOption(new Option(flag.replace("--", "--no-"), "the opposite").helpGroup(group));
  }
  parseFlags(program, argv);

  const given = new Map<SettingPath, { value: unknown; where: string }>();
  for (const [path, option] of options) {
    const raw: unknown = program.getOptionValue(option.attributeName());
    if (raw === undefined) continue;
    const where = raw === false ? `--no-${option.name()}` : `--${option.name()}`;
    const value = typeof raw === "string" && settings[path].form === undefined ? scalar(raw) : raw;
    checkSetting(path, value, where);
    given.set(path, { value, where });
  }
  const configFile: unknown = program.getOptionValue("config");
  return { configFile: typeof configFile === "string" ? configFile : undefined, given };
}

/** A flag's text means what it would mean in run.yaml: numbers, "all". */
function scalar(text: string): unknown {
  if (/^[\w.+-]+$/.test(text)) return parse(text) as unknown;
  return text;
}
