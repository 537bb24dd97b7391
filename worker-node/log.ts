/** @file What a Node worker says on stdout: a line for a person, or structured, for whoever collects the logs of containers. */
import pino from "pino";

export const logKinds = ["terminal", "json", "pretty"] as const;
export type LogKind = (typeof logKinds)[number];

/** `fields` are what a machine would want to know of it. */
export type Log = (text: string, fields: Readonly<Record<string, unknown>>) => void;

/** Structured lines have `level`, `time` (ISO 8601, UTC), `program` and `msg`, like the coordinator's. */
export async function openLog(kind: LogKind): Promise<Log> {
  if (kind === "terminal") return (text) => void process.stdout.write(`${text}\n`);
  const options: pino.LoggerOptions = {
    base: { program: "worker" },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
  };
  if (kind === "json") {
    const logger = pino(options, pino.destination({ fd: 1, sync: true }));
    return (text, fields) => logger.info(fields, text);
  }
  const { default: pretty } = await import("pino-pretty");
  const logger = pino(options, pretty({ sync: true, ignore: "program", translateTime: "SYS:HH:MM:ss" }));
  return (text, fields) => logger.info(fields, text);
}
