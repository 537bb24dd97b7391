/** @file In an image: is the folder for runs a volume that this user may write to? Told at the start, with what mends it. */
import { accessSync, constants, statSync } from "node:fs";
import { OperatorError } from "../operatorError.ts";

/**
 * @param folder where the image expects its volume, or undefined outside an image (`MANYHANDS_VOLUME`).
 *
 * @throws OperatorError when nothing is mounted there (what is written would go with the container), or it cannot be written to.
 */
export function requireVolume(folder: string | undefined): void {
  if (folder === undefined) return;
  const found = statSync(folder, { throwIfNoEntry: false });
  // A mount has a device of its own; a folder of the image has the device of the root.
  if (found === undefined || found.dev === statSync("/").dev) {
    throw new OperatorError(
      `${folder}: no volume is mounted there, and the run would be lost with the container; mount one: docker run -v manyhands:${folder} …`,
    );
  }
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    const [user, group] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    throw new OperatorError(
      `${folder}: permission denied for user ${user}, the volume is owned by ${found.uid}:${found.gid}; run chown -R ${user}:${group} on it (in Kubernetes: fsGroup: ${group})`,
    );
  }
}
