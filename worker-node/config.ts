/** @file Flags of `npm run worker`. */
import { hostname } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import { enginePreferences, type EnginePreference } from "./engine.ts";
import { logKinds, type LogKind } from "./log.ts";
import { type Provider, providers } from "./providers.ts";

export type WorkerConfig = {
  /** The coordinator's HTTP origin, without a slash at the end. */
  readonly url: string;
  readonly threads: number;
  readonly engine: EnginePreference;
  /** What ONNX Runtime computes on. */
  readonly provider: Provider;
  readonly name: string;
  readonly token: string | null;
  readonly quiet: boolean;
  readonly log: LogKind;
  /** Where a supervisor may ask how the worker is; null for nowhere. */
  readonly healthPort: number | null;
};

export function parseWorkerArguments(argv: readonly string[]): WorkerConfig {
  const program = new Command("npm run worker --")
    .description("Computes for a manyhands coordinator until the run is finished or you press Ctrl-C.")
    .addOption(
      new Option("--url <url>", "address of the coordinator, e.g. http://192.168.1.5:8080 (or MANYHANDS_URL)")
        .env("MANYHANDS_URL")
        .argParser(parseUrl)
        .makeOptionMandatory(),
    )
    .option("--threads <n>", "threads for computing", parseThreads, 1)
    .addOption(new Option("--engine <name>", "what computes").choices(enginePreferences).default("auto"))
    .addOption(new Option("--provider <name>", "what --engine onnx computes on").choices(providers).default("cpu"))
    .option("--name <name>", "what the coordinator's operator sees", parseName, hostname().slice(0, 64))
    // Not as a default value: --help would show it.
    .addOption(new Option("--token <token>", "the run's token, or an invite's").env("MANYHANDS_TOKEN"))
    .addOption(
      new Option("--log <kind>", "for a person, or structured lines (or MANYHANDS_LOG)")
        .choices(logKinds)
        .env("MANYHANDS_LOG")
        .default("terminal"),
    )
    .option("--health-port <n>", "GET /healthz and /readyz answer there (default: nowhere)", parsePort, null)
    .option("--quiet", "print problems only", false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.split("\n")[0] + "\n") });
  program.parse([...argv], { from: "user" });
  const options = program.opts<Omit<WorkerConfig, "token"> & { token?: string }>();
  if (options.provider !== "cpu" && options.engine !== "onnx") {
    program.error(`error: --provider ${options.provider} is for --engine onnx, not ${options.engine}`);
  }
  return { ...options, token: options.token ?? null };
}

function parseUrl(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new InvalidArgumentError("Allowed: an http:// or https:// address.");
  }
  return url.origin;
}

function parseThreads(value: string): number {
  const threads = Number(value);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new InvalidArgumentError("Allowed: a whole number from 1 to 1024.");
  }
  return threads;
}

function parsePort(value: string): number {
  const port = Number(value);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new InvalidArgumentError("Allowed: a whole number from 0 to 65535.");
  }
  return port;
}

function parseName(value: string): string {
  if (value.length === 0 || value.length > 64) throw new InvalidArgumentError("Allowed: 1 to 64 characters.");
  return value;
}
