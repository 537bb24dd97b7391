/** @file Structured logs on stdout: one JSON object a line, or the same in words. */
import pino from "pino";
import type { Logger } from "pino";

export type { Logger } from "pino";

/** `terminal`: news and a progress bar, for the person who started it. The others say everything. */
export const logKinds = ["terminal", "json", "pretty"] as const;
export type LogKind = (typeof logKinds)[number];

/** Every line has `level`, `time` (ISO 8601, UTC), `program` and `msg`; what happened to whom is in fields of its own. */
export async function createLogger(kind: Exclude<LogKind, "terminal">, program: string): Promise<Logger> {
  const options: pino.LoggerOptions = {
    base: { program },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
  };
  // Synchronous: the last words of a process that crashes are the ones that count.
  if (kind === "json") return pino(options, pino.destination({ fd: 1, sync: true }));
  const { default: pretty } = await import("pino-pretty");
  return pino(options, pretty({ sync: true, ignore: "program", translateTime: "SYS:HH:MM:ss" }));
}
