/** @file Which errors mean that the disk is full: the run waits for room instead of ending. */

/** SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: no room for the write-ahead log's index. */
const sqliteCodes: ReadonlySet<unknown> = new Set([13, 4874]);

/** What room on the disk would mend, in words; null for any other error. */
export function diskProblem(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if ("errcode" in error && sqliteCodes.has(error.errcode)) return "no space left on the disk";
  // An error that came from another thread has lost its code; the message still begins with it.
  const code = "code" in error ? error.code : /^([A-Z]+): /.exec(error.message)?.[1];
  if (code === "ENOSPC") return "no space left on the disk";
  return code === "EDQUOT" ? "disk quota exceeded" : null;
}
