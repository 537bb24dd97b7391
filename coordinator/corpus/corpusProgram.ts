/** @file Prepares a corpus for a coordinator that started it: {@link prepareApart} has the reason. Tells it how it goes, and ends. */
import { prepareCorpus } from "./corpus.ts";
import type { CorpusRequest, CorpusWord } from "./prepareApart.ts";
import { OperatorError } from "../../shared/operatorError.ts";

// The coordinator ended.
process.once("disconnect", () => process.exit());

function say(word: CorpusWord): void {
  process.send?.(word);
}

process.once("message", (request: CorpusRequest) => void prepare(request));

async function prepare(request: CorpusRequest): Promise<void> {
  try {
    const { dir } = await prepareCorpus({ ...request, onProgress: (progress) => say({ type: "progress", progress }) });
    say({ type: "ready", dir });
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    say({ type: "problem", message: error.message });
  }
  process.disconnect();
}
