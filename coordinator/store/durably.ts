/** @file Files that are there whole or not at all, whatever happens while they are written. */

import { open, rename, rm } from "node:fs/promises";

/** Ends the names of files that are being written; one that is left over may be removed. */
export const TEMPORARY = ".tmp";

/**
 * Writes `parts` one after the other to `path`: to a temporary file beside it, synced, then renamed, so that under the
 * name there is the whole file or what was there before. Follow with {@link syncFolder} when the name must survive too.
 *
 * @throws Error of the file system, e.g. ENOSPC; the temporary file is removed.
 */
export async function writeDurably(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const temporary = path + TEMPORARY;
  try {
    const handle = await open(temporary, "w");
    try {
      for (const part of parts) {
        for (let done = 0; done < part.length;) done += (await handle.write(part, done)).bytesWritten;
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Without it a rename may be lost in a power cut, though the file's bytes are not. */
export async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
