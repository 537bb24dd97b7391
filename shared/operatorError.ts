/** @file Mistakes of the person who starts a program: told in one line, exit code 2, nothing half-written. */

/**
 * The operator is wrong (flags, files, run.yaml). The message is one line that names the setting, its value and what is
 * allowed: `--steps abc: must be a whole number from 1`. A program's main prints it without a stack.
 */
export class OperatorError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message.replaceAll(/\s*\n\s*/g, " "), options);
    this.name = "OperatorError";
  }
}

const fileProblems: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "no such file or folder"],
  ["ENOTDIR", "a part of the path is not a folder"],
  ["EISDIR", "is a folder, not a file"],
  ["EEXIST", "exists already"],
  ["EACCES", "permission denied"],
  ["EPERM", "permission denied"],
  ["EROFS", "the file system is read-only"],
  ["ENOSPC", "no space left on the disk"],
  ["EDQUOT", "disk quota exceeded"],
  ["EMFILE", "too many open files"],
  ["ENAMETOOLONG", "the name is too long"],
  ["EIO", "the disk reports an error"],
]);

/** What went wrong with a file, in words; undefined when the error is not the file system's. */
export function fileProblem(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  // An error that came from another thread has lost its code; the message still begins with it.
  const code = "code" in error ? error.code : /^([A-Z]+): /.exec(error.message)?.[1];
  return typeof code === "string" ? fileProblems.get(code) : undefined;
}
