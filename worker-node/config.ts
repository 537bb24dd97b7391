/** @file Flags of `npm run worker`. */
import { hostname } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import type { EnginePreference } from "./engine.ts";

export type WorkerConfig = {
  /** The coordinator's HTTP origin, without a slash at the end. */
  readonly url: string;
  readonly threads: number;
  readonly engine: EnginePreference;
  readonly name: string;
  readonly token: string | null;
  readonly quiet: boolean;
};

export function parseWorkerArguments(argv: readonly string[]): WorkerConfig {
  const program = new Command("npm run worker --")
    .description("Computes for a manyhands coordinator until the run is finished or you press Ctrl-C.")
    .requiredOption("--url <url>", "address of the coordinator, e.g. http://192.168.1.5:8080", parseUrl)
    .option("--threads <n>", "threads for computing", parseThreads, 1)
    .addOption(new Option("--engine <name>", "what computes").choices(["auto", "onnx", "wasm", "cpu"]).default("auto"))
    .option("--name <name>", "what the coordinator's operator sees", parseName, hostname().slice(0, 64))
    .option("--token <token>", "when the run asks for one (or MANYHANDS_TOKEN)", process.env["MANYHANDS_TOKEN"])
    .option("--quiet", "print problems only", false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.split("\n")[0] + "\n") });
  program.parse([...argv], { from: "user" });
  const options = program.opts<Omit<WorkerConfig, "token"> & { token?: string }>();
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

function parseName(value: string): string {
  if (value.length === 0 || value.length > 64) throw new InvalidArgumentError("Allowed: 1 to 64 characters.");
  return value;
}
