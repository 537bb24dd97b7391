/** @file A real file system of a few megabytes, to be filled up: a tmpfs, where this user may mount one. */
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type SmallDisk = {
  readonly dir: string;
  /** Takes all room there is but `leave` bytes. */
  readonly fill: (leave?: number) => void;
  readonly makeRoom: () => void;
  readonly remove: () => void;
};

/** Null when mounting is not allowed here, with the reason on `why`. */
export function mountSmallDisk(bytes: number, why: (reason: string) => void): SmallDisk | null {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", dir], { stdio: "pipe" });
  } catch (error) {
    rmSync(dir, { recursive: true });
    why(`a small file system cannot be mounted here: ${(error as Error).message.split("\n").at(-2) ?? String(error)}`);
    return null;
  }
  const ballast = join(dir, "ballast");
  return {
    dir,
    fill(leave = 0) {
      const file = openSync(ballast, "w");
      const block = Buffer.alloc(4096, 1);
      let blocks = 0;
      try {
        for (;;) {
          writeSync(file, block);
          blocks += 1;
        }
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      } finally {
        closeSync(file);
      }
      if (leave > 0) execFileSync("truncate", ["-s", String(Math.max(0, 4096 * blocks - leave)), ballast]);
    },
    makeRoom: () => rmSync(ballast, { force: true }),
    remove() {
      execFileSync("umount", ["-l", dir]);
      rmSync(dir, { recursive: true });
    },
  };
}
