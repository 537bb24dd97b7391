/** @file Where a program of this folder ends when its operator was wrong. */

import { OperatorError } from "../shared/operatorError.ts";

export { OperatorError } from "../shared/operatorError.ts";

/** Runs a program's main: an {@link OperatorError} is one line on stderr and exit code 2; anything else is our fault and crashes. */
export async function runProgram(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    // Not exitCode alone: a server or a thread that was started already would keep the process alive.
    process.exit(2);
  }
}
