/** @file What the operator sees: a progress bar in a terminal, a line now and then elsewhere; as structured logs, everything. */
import type { SingleBar } from "cli-progress";
import { count } from "./count.ts";
import { createLogger } from "./log.ts";
import type { Logger, LogKind } from "./log.ts";
import type { Status } from "../../shared/wire/status.ts";

export type Console = {
  /** One line that stays. */
  readonly line: (text: string) => void;
  readonly progress: (status: Status) => void;
  /** Something that happened to the run, for the logs of a service; a person is not shown each of them. */
  readonly event: (code: string, text: string) => void;
  /** Leaves the last state of the bar on the screen. */
  readonly end: () => void;
};

/** Where lines go to a file or a log: often enough to see that it lives. */
const LINE_EVERY_MS = 5000;

/** @param kind `terminal`: as `out` is a terminal or not; otherwise structured, on stdout. */
export async function openConsole(out: NodeJS.WriteStream, kind: LogKind): Promise<Console> {
  if (kind !== "terminal") return structured(await createLogger(kind, "coordinator"));
  return out.isTTY ? terminal(out) : lines(out);
}

async function terminal(out: NodeJS.WriteStream): Promise<Console> {
  const { MultiBar, Presets } = await import("cli-progress");
  const bars = new MultiBar(
    { stream: out, format: "{bar} {percentage}%  {text}", barsize: 24, hideCursor: true, linewrap: false, fps: 5 },
    Presets.shades_classic,
  );
  let bar: SingleBar | null = null;
  return {
    line(text) {
      if (bar === null) out.write(`${text}\n`);
      else bars.log(`${text}\n`);
    },
    progress(status) {
      bar ??= bars.create(status.steps, status.version, { text: "" });
      bar.setTotal(Math.max(1, status.steps));
      bar.update(status.version, { text: describe(status) });
    },
    event: () => {},
    end() {
      bars.stop();
      bar = null;
    },
  };
}

function lines(out: NodeJS.WriteStream): Console {
  return {
    line: (text) => void out.write(`${text}\n`),
    progress: nowAndThen((_, text) => void out.write(`${text}\n`)),
    event: () => {},
    end: () => {},
  };
}

/** What happens as it should; every other event is a refusal or a failure. */
const ordinary: ReadonlySet<string> = new Set(["joined", "left"]);

function structured(log: Logger): Console {
  return {
    line: (text) => log.info(text),
    progress: nowAndThen(
      ({ phase, version, steps, trainLoss, validationLoss, tokens, tokensPerSecond, workers }, text) =>
      log.info({ event: "progress", phase, version, steps, trainLoss, validationLoss, tokens, tokensPerSecond, workers: workers.length }, text), // prettier-ignore
    ),
    event: (event, text) => (ordinary.has(event) ? log.info({ event }, text) : log.warn({ event }, text)),
    end: () => {},
  };
}

/** Calls back when there is news, not more often than {@link LINE_EVERY_MS}, and once at the end. */
function nowAndThen(show: (status: Status, text: string) => void): (status: Status) => void {
  let lastMs = -Infinity;
  let lastText = "";
  return (status) => {
    const nowMs = performance.now();
    const text = describe(status);
    if (text === lastText || (nowMs - lastMs < LINE_EVERY_MS && status.phase !== "finished")) return;
    lastMs = nowMs;
    lastText = text;
    show(status, text);
  };
}

/** `step 120/1000  train 2.31  val 2.40  15,812 tok/s  2 workers  ETA 1:23`; the reducer's reason while nothing moves. */
function describe(status: Status): string {
  const { version, steps, trainLoss, validationLoss, tokensPerSecond, tokens, workers } = status;
  const parts = [`step ${version}/${steps}`];
  if (trainLoss !== null) parts.push(`train ${trainLoss.toFixed(3)}`);
  if (validationLoss !== null) parts.push(`val ${validationLoss.toFixed(3)}`);
  const ready = workers.filter(({ state }) => state === "ready").length;
  if (tokensPerSecond > 0) {
    parts.push(`${count(tokensPerSecond)} tok/s`);
    parts.push(`${ready} worker${ready === 1 ? "" : "s"}`);
    const perStep = version > 0 ? tokens / version : 0;
    if (version < steps) parts.push(`ETA ${clock(((steps - version) * perStep) / tokensPerSecond)}`);
  }
  if (tokensPerSecond === 0 || version >= steps || status.phase === "paused") parts.push(status.reason);
  return parts.join("  ");
}

/** Seconds as m:ss or h:mm:ss. */
function clock(seconds: number): string {
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const tail = `${String(minutes).padStart(hours > 0 ? 2 : 1, "0")}:${String(rest).padStart(2, "0")}`;
  return hours > 0 ? `${hours}:${tail}` : tail;
}
