/**
 * @file What workers may fetch of θ: the newest updates (for who is a little behind) and snapshots of θ in memory (for who
 * has nothing). Both are bounded [I5]; a worker further behind than the updates reach is sent a snapshot.
 */
import type { SnapshotReference, Version } from "../../shared/wire/protocol.ts";

export type Update = { readonly version: Version; readonly hash: string; readonly payload: Uint8Array };

export type Publisher = {
  add(update: Update): void;
  /**
   * The updates that lead from `version` to the newest one, oldest first; null when they are not kept any more, or have more than
   * `maxBytes` together.
   */
  since(version: Version, newest: Version, maxBytes: number): readonly Update[] | null;
  /** The hash of θ at a version that is still known; null for any other. */
  hashOf(version: Version): string | null;
  /** Offers θ as it is now; the bytes are made once per version. */
  offer(version: Version, hash: string, encode: () => Uint8Array<ArrayBuffer>): SnapshotReference;
  /** The bytes of an offered snapshot, or null when it has been let go. */
  snapshot(name: string): Uint8Array<ArrayBuffer> | null;
};

/** Where snapshots are served. */
export const SNAPSHOT_PATH = "/snapshots/";

/** Enough for a worker to load a snapshot while rounds of a tiny model go on at 100 per second. */
const MAX_UPDATES = 32;

/** A joiner gets its snapshot before this many newer ones were offered, or asks again. */
const MAX_SNAPSHOTS = 3;

export function createPublisher({ maxUpdateBytes }: { maxUpdateBytes: number }): Publisher {
  const updates: Update[] = [];
  const snapshots = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Hashes of versions that somebody may still hold from a snapshot. */
  const offered = new Map<Version, string>();
  let bytes = 0;
  return {
    add(update) {
      updates.push(update);
      bytes += update.payload.length;
      while (updates.length > 2 && (updates.length > MAX_UPDATES || bytes > maxUpdateBytes)) {
        bytes -= updates.shift()?.payload.length ?? 0;
      }
    },
    since(version, newest, maxBytes) {
      if (version === newest) return [];
      const first = updates.findIndex((update) => update.version === version + 1);
      if (first < 0 || updates.at(-1)?.version !== newest) return null;
      const missing = updates.slice(first);
      return missing.reduce((sum, { payload }) => sum + payload.length, 0) > maxBytes ? null : missing;
    },
    hashOf(version) {
      const update = updates.find((candidate) => candidate.version === version);
      return update?.hash ?? offered.get(version) ?? null;
    },
    offer(version, hash, encode) {
      const name = `${version}-${hash}.safetensors`;
      if (!snapshots.has(name)) {
        snapshots.set(name, encode());
        offered.set(version, hash);
        trim(snapshots, MAX_SNAPSHOTS);
        trim(offered, MAX_UPDATES);
      }
      return { path: SNAPSHOT_PATH + name, version, hash };
    },
    snapshot: (name) => snapshots.get(name) ?? null,
  };
}

/** Lets the oldest entries go until `size` are left. */
function trim(map: Map<unknown, unknown>, size: number): void {
  for (const oldest of map.keys()) {
    if (map.size <= size) return;
    map.delete(oldest);
  }
}
