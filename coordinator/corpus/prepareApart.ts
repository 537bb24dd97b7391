/**
 * @file Prepares a corpus in a process of its own. All texts are in memory while that happens, and some 80 MB of what they took
 * would stay with a coordinator that did it itself, for as long as it lives.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { OperatorError } from "../../shared/operatorError.ts";
import { loadCorpus } from "./corpus.ts";
import type { Corpus, prepareCorpus } from "./corpus.ts";
import type { OnCorpusProgress } from "./encodeCorpus.ts";

export type CorpusRequest = Omit<Parameters<typeof prepareCorpus>[0], "onProgress">;

/** What the program says to who started it. */
export type CorpusWord =
  | { readonly type: "progress"; readonly progress: Parameters<OnCorpusProgress>[0] }
  | { readonly type: "ready"; readonly dir: string }
  /** The operator's to mend. */
  | { readonly type: "problem"; readonly message: string };

/** As `prepareCorpus`. @throws OperatorError as it does; Error when the program ends without a word. */
export async function prepareApart(request: CorpusRequest, onProgress: OnCorpusProgress): Promise<Corpus> {
  const program = fileURLToPath(new URL("./corpusProgram.ts", import.meta.url));
  const child = spawn(process.execPath, [program], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  let last: CorpusWord | null = null;
  child.on("message", (word: CorpusWord) => {
    if (word.type === "progress") onProgress(word.progress);
    last = word;
  });
  const ended = new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  child.send(request);
  const end = await ended;
  const word = last as CorpusWord | null;
  if (word?.type === "problem") throw new OperatorError(word.message);
  if (word?.type === "ready") return loadCorpus(word.dir);
  throw new Error(`the program that prepares the corpus ended with ${end}`);
}
