/** @file `npm start`: prepares the corpus, serves the run, starts workers on this machine, and shows how it goes. */
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { bytesToTokens } from "../shared/data/tokenSource.ts";
import { decode, END_OF_TEXT } from "../shared/tokenizer/tokenizer.ts";
import { buildPages, pagesDir, sampleText } from "./children.ts";
import { parseArguments } from "./settings/config.ts";
import { openConsole } from "./observe/console.ts";
import { count } from "./observe/count.ts";
import { diskProblem } from "./store/diskProblem.ts";
import { loadTokenizer, smallerVocabulary } from "./corpus/corpus.ts";
import type { Corpus } from "./corpus/corpus.ts";
import { startLocalWorkers } from "./localWorkers.ts";
import { fileProblem } from "../shared/operatorError.ts";
import { OperatorError, runProgram } from "./operatorError.ts";
import { newSecret } from "./edge/secret.ts";
import { givenSettings, resolveRun, storeRun } from "./settings/resolveRun.ts";
import { processSettings } from "./settings/runSpec.ts";
import { serve } from "./serve.ts";
import { requireVolume } from "./settings/volume.ts";

/** How often the terminal is brought up to date. */
const SHOW_MS = 250;

/** Enough to set a tone. */
const PROMPT_TOKENS = 8;

/** Tokens of the sample that a finished run ends with. */
const SAMPLE_TOKENS = 160;

await runProgram(main);

async function main(): Promise<void> {
  const handled = endOnSignals();
  const settings = parseArguments(process.argv.slice(2));
  requireVolume(process.env["MANYHANDS_VOLUME"]);
  const { log } = processSettings(await givenSettings(settings), availableParallelism());
  const screen = await openConsole(process.stdout, log);
  const pages = buildPages();
  const resolved = await resolveRun(
    settings,
    reportStages((stage) => screen.line(`preparing the corpus: ${stage}`)),
  );
  const { spec, corpus, runDir, resumed, changes } = resolved;
  const { workers, threads, engine, host, port, token, adminToken, limits, proxies, origins, stay, runsDir } =
    resolved.process;
  const ownKey = newSecret();
  const stopAsked = Promise.withResolvers<"interrupted">();
  const served = await serve({
    spec,
    corpus,
    runDir,
    pagesDir,
    host,
    port,
    token,
    adminToken,
    limits,
    proxies,
    origins,
    ownKey,
    // The optimizer works while the workers wait for it: it may have all cores.
    threads: Math.min(8, availableParallelism()),
    onStop: () => stopAsked.resolve("interrupted"),
    onNotice: (text) => screen.line(text),
    onEvent: screen.event,
    onRound: () => {},
    onEvaluated: () => {},
  }).catch((error: Error) => {
    throw asOperatorError(error, runDir);
  });
  await storeRun(resolved);
  const pagesProblem = await pages;
  if (pagesProblem !== null) screen.line(pagesProblem);

  const { version, parameters } = served.status();
  const millions = (parameters / 1e6).toFixed(2);
  const { train, val } = corpus.manifest.splits;
  const text = `${corpus.manifest.name}: ${count(train.tokens)} tokens to train on, ${count(val.tokens)} to validate on`;
  const start = resumed ? `resumed at step ${version}` : "new";
  screen.line(`run "${spec.name}" (${start}): ${millions} M parameters, ${spec.steps} steps of ${spec.batch} × ${spec.model.context} tokens`); // prettier-ignore
  screen.line(text);
  const smaller = smallerVocabulary(corpus.manifest, spec.data.tokenizer);
  if (smaller !== undefined) screen.line(smaller);
  for (const change of changes) screen.line(`changed: ${change}`);
  screen.line(`join with a browser:  ${served.url}/`);
  screen.line(`join with Node:       npm run worker -- --url ${served.url}`);
  if (spec.invites) screen.line(`both need an invite:  npm run invite -- --run ${spec.name}`);

  const { promise: interrupted, stop: interrupt } = onInterrupt();
  handled();
  const local = startLocalWorkers({
    count: workers,
    url: served.url,
    threads,
    engine,
    ownKey,
    onProblem: (problem) => screen.line(problem),
  });
  const shown = setInterval(() => screen.progress(served.status()), SHOW_MS);
  let failure: Error | null = null;
  const outcome = await Promise.race([
    served.finished.then(() => "finished" as const),
    interrupted,
    stopAsked.promise,
  ]).catch((error: Error) => {
    failure = error;
    return "failed" as const;
  });
  if (outcome === "finished" && stay) {
    screen.progress(served.status());
    screen.line("the run is finished; serving on until stopped");
    await Promise.race([interrupted, stopAsked.promise]);
  }
  clearInterval(shown);
  const last = served.status();
  screen.progress(last);
  screen.end();
  await local.stop();
  const { snapshot } = await served.stop().catch((error: Error) => {
    failure ??= error;
    return { snapshot: "" };
  });
  interrupt();
  if (failure !== null) throw asOperatorError(failure, runDir);

  if (outcome === "interrupted") {
    screen.line(`stopped at step ${last.version} of ${last.steps}; the same command goes on from there`);
    return;
  }
  // Whoever stops a service waits for it.
  if (stay) return;
  const sample = await sampleText(
    { name: spec.name, runsDir, prompt: await firstWords(corpus), tokens: SAMPLE_TOKENS },
    (problem) => screen.line(problem),
  );
  if (sample !== null) screen.line(`\na sample of what it writes now:\n${sample.replace(/^/gm, "    ")}\n`);
  screen.line(`model:     ${relative(process.cwd(), snapshot)}`);
  screen.line(`write:     npm run generate -- --run ${spec.name} --prompt "My fellow citizens"`);
  screen.line(`take away: npm run export -- --run ${spec.name} --out my-model`);
}

/**
 * Until there is something to end with care, a signal ends the process: as process 1 of a container, one that nobody handles
 * would do nothing. Elsewhere that is the system's default. The returned function undoes it.
 */
function endOnSignals(): () => void {
  if (process.pid !== 1) return () => {};
  process.on("SIGINT", endAtOnce);
  process.on("SIGTERM", endAtOnce);
  return () => {
    process.off("SIGINT", endAtOnce);
    process.off("SIGTERM", endAtOnce);
  };
}

function endAtOnce(): never {
  process.exit(0);
}

/** Resolves at the first Ctrl-C or SIGTERM; a second one does not wait for anything. */
function onInterrupt(): { promise: Promise<"interrupted">; stop: () => void } {
  let seen = false;
  const { promise, resolve } = Promise.withResolvers<"interrupted">();
  const onSignal = (): void => {
    if (seen) process.exit(130);
    seen = true;
    resolve("interrupted");
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return {
    promise,
    stop: () => {
      process.off("SIGINT", onSignal);
      process.off("SIGTERM", onSignal);
    },
  };
}

/** A full disk is the operator's to mend; anything else is ours. */
function asOperatorError(error: Error, runDir: string): Error {
  const problem = diskProblem(error) ?? fileProblem(error);
  if (problem === undefined) return error;
  return new OperatorError(
    `${runDir}: ${problem}; no committed step is lost, and the same command goes on once that is mended`,
  );
}

/** How the held-out text begins: a prompt in the corpus's own words, whatever its tokenizer. */
async function firstWords(corpus: Corpus): Promise<string> {
  const tokenizer = await loadTokenizer(corpus);
  const file = corpus.manifest.splits.val.shards[0]?.file ?? "";
  const tokens = bytesToTokens((await readFile(join(corpus.dir, file))).subarray(0, 2 * PROMPT_TOKENS));
  return decode(tokenizer, tokens).replaceAll(END_OF_TEXT, "");
}

/** Calls back once per stage: preparing takes seconds, and a silent terminal looks like a dead one. */
function reportStages(line: (stage: string) => void): (progress: { stage: string }) => void {
  let last = "";
  return ({ stage }) => {
    if (stage !== last) line(stage);
    last = stage;
  };
}
