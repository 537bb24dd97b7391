/** @file Command lines: commander's own complaints become operator errors, one line and exit code 2 like all others. */

import { CommanderError, type Command } from "commander";
import { OperatorError } from "../../shared/operatorError.ts";

/** Parses, with `--help` printing and ending the process. @throws OperatorError for what commander refuses. */
export function parseFlags(program: Command, argv: readonly string[]): void {
  program.exitOverride().configureOutput({ outputError: () => {} });
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) process.exit(0);
    const message = error.message.replace(/^error: /, "").replace("unknown option", "unknown flag");
    throw new OperatorError(`${message}; ${program.name()} --help lists the flags`);
  }
}
