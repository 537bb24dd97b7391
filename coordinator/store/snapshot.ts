/**
 * @file Snapshots on disk. `<version>-<hash>.safetensors` is θ_pub as named tensors, the file that workers load and that
 * exports copy; `<version>-<hash>.optimizer.safetensors` is what a restart needs besides: θ_master, the moments and t.
 *
 * Each is written to a temporary file, synced and renamed, the optimizer's first: a params file whose optimizer file is
 * missing or does not agree with its hashes is no snapshot.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, readdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { namedTensors, readParams } from "../../shared/codec/paramsFile.ts";
import { floatsOf, readSafetensors, safetensorsParts } from "../../shared/codec/safetensors.ts";
import { hashParams } from "../../shared/numerics/hash.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import type { ArenaHashes, ArenaState } from "../optimizer/arena.ts";
import { TEMPORARY, syncFolder, writeDurably } from "./durably.ts";

export type SnapshotName = {
  readonly version: number;
  readonly hash: string;
  /** Absolute, or relative as the folder was given. */
  readonly paramsPath: string;
  readonly optimizerPath: string;
};

export type Snapshot = SnapshotName & {
  readonly state: ArenaState;
  readonly metadata: Readonly<Record<string, string>>;
};

/** A file that is not what its name says, and why. */
export type Skipped = { readonly path: string; readonly reason: string };

const NAME = /^(\d{1,15})-([0-9a-f]{16})\.safetensors$/;

/**
 * Writes both files and makes them durable; `metadata` (run name, spec as JSON, …) goes into the params file.
 *
 * @throws Error of the file system, e.g. ENOSPC; then no half-written file is left under a snapshot's name.
 */
export async function writeSnapshot({
  dir,
  version,
  layout,
  state,
  metadata = {},
}: {
  dir: string;
  version: number;
  layout: ParamLayout;
  state: ArenaState & { readonly hashes: ArenaHashes };
  metadata?: Readonly<Record<string, string>>;
}): Promise<SnapshotName> {
  const { hashes } = state;
  const name = nameOf(dir, version, hashes.params);
  const shape = [layout.length];
  await writeDurably(
    name.optimizerPath,
    safetensorsParts(
      [
        { name: "master", shape, values: state.master },
        { name: "m", shape, values: state.m },
        { name: "v", shape, values: state.v },
      ],
      {
        ...withChecksum({
          version: String(version),
          steps: String(state.steps),
          params_hash: hashes.params,
          master_hash: hashes.master,
          m_hash: hashes.m,
          v_hash: hashes.v,
        }),
      },
    ),
  );
  const described = { ...metadata, version: String(version), hash: hashes.params };
  await writeDurably(name.paramsPath, safetensorsParts(namedTensors(layout, state.params), described));
  await syncFolder(dir);
  return name;
}

/** By name alone, newest first; an older file of the same version comes after a newer one only by its hash. */
export async function listSnapshots(dir: string): Promise<SnapshotName[]> {
  const names = (await readdir(dir)).flatMap((file) => {
    const match = NAME.exec(file);
    return match === null ? [] : [nameOf(dir, Number(match[1]), match[2]!)];
  });
  return names.sort((a, b) => b.version - a.version || (a.hash < b.hash ? -1 : 1));
}

/** Whether a params file of this name is there; nothing else in the folder is anybody's business. */
export async function hasSnapshot(dir: string, file: string): Promise<boolean> {
  return (await listSnapshots(dir)).some(({ paramsPath }) => basename(paramsPath) === file);
}

/** @throws Error naming what is torn, missing or does not agree. */
export async function readSnapshot(name: SnapshotName, layout: ParamLayout): Promise<Snapshot> {
  const params = new Float32Array(layout.length);
  const metadata = readParams(await readFile(name.paramsPath), layout, params);
  requireHash(name.paramsPath, "params", params, name.hash);
  const { metadata: own, tensors } = readSafetensors(await readFile(name.optimizerPath));
  // Snapshots of version 0.1.0 have none.
  const { checksum, ...fields } = own;
  if (checksum !== undefined && withChecksum(fields)["checksum"] !== checksum) {
    throw new Error(`${name.optimizerPath}: its fields have not the checksum they were written with`);
  }
  if (own["version"] !== String(name.version)) {
    throw new Error(`${name.optimizerPath} says that it is of version ${own["version"]}`);
  }
  if (own["params_hash"] !== name.hash) {
    throw new Error(`${name.optimizerPath} belongs to parameters with hash ${own["params_hash"]}`);
  }
  const [master, m, v] = (["master", "m", "v"] as const).map((part) => {
    const tensor = tensors.get(part);
    if (tensor === undefined) throw new Error(`${name.optimizerPath} has no tensor "${part}"`);
    const values = floatsOf(part, tensor);
    if (values.length !== layout.length) {
      throw new Error(
        `${name.optimizerPath}: "${part}" has ${values.length} elements, this model has ${layout.length}`,
      );
    }
    requireHash(name.optimizerPath, part, values, own[`${part}_hash`]);
    return values;
  }) as [Float32Array, Float32Array, Float32Array];
  const steps = Number(own["steps"]);
  if (!Number.isSafeInteger(steps) || steps < 0) throw new Error(`${name.optimizerPath}: steps "${own["steps"]}"`);
  return { ...name, state: { params, master, m, v, steps }, metadata };
}

/** The newest snapshot that is whole, and those that had to be passed over. */
export async function newestSnapshot(
  dir: string,
  layout: ParamLayout,
): Promise<{ snapshot: Snapshot | null; skipped: readonly Skipped[] }> {
  const skipped: Skipped[] = [];
  for (const name of await listSnapshots(dir)) {
    try {
      return { snapshot: await readSnapshot(name, layout), skipped };
    } catch (error) {
      skipped.push({ path: name.paramsPath, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { snapshot: null, skipped };
}

/**
 * Renames snapshots newer than `until`, the last version that the ledger knows: after a power cut the ledger may have
 * lost commits that the snapshot outlived. Their samples will be trained on again, by other parameters; what is in the
 * file may still be of use to somebody, so it is not removed.
 */
export async function setAside(dir: string, until: number): Promise<Skipped[]> {
  const skipped: Skipped[] = [];
  for (const { version, paramsPath, optimizerPath } of await listSnapshots(dir)) {
    if (version <= until) continue;
    await rename(paramsPath, `${paramsPath}.ahead`);
    if (existsSync(optimizerPath)) await rename(optimizerPath, `${optimizerPath}.ahead`);
    skipped.push({ path: paramsPath, reason: `newer than version ${until}, the ledger's last; renamed to *.ahead` });
  }
  return skipped;
}

/** θ of one params file, for generating and exporting. @throws Error naming the file and what is wrong with it. */
export async function readParamsFile(
  path: string,
  layout: ParamLayout,
): Promise<{ params: Float32Array; metadata: Readonly<Record<string, string>> }> {
  const file = await readFile(path);
  const params = new Float32Array(layout.length);
  try {
    return { params, metadata: readParams(file, layout, params) };
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/**
 * Removes all but the newest `keep` snapshots, and what interrupted writes left behind. Of the older ones the params stay
 * of one for each time that the version doubled, so that it can be seen how the model came to be what it is: their number
 * grows with the logarithm of the steps.
 */
export async function pruneSnapshots(dir: string, keep: number): Promise<void> {
  let doublings = -1;
  for (const { version, paramsPath, optimizerPath } of (await listSnapshots(dir)).slice(keep).reverse()) {
    await rm(optimizerPath, { force: true });
    const isMilestone = Math.floor(Math.log2(version + 1)) > doublings;
    if (isMilestone) doublings = Math.floor(Math.log2(version + 1));
    else await rm(paramsPath, { force: true });
  }
  for (const file of await readdir(dir)) {
    if (file.endsWith(`.safetensors${TEMPORARY}`)) await rm(join(dir, file), { force: true });
  }
}

/** The tensors have hashes of their own; this one is of the fields that say so, and of AdamW's t. */
function withChecksum(fields: Readonly<Record<string, string>>): Record<string, string> {
  const text = JSON.stringify(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { ...fields, checksum: createHash("sha256").update(text).digest("hex").slice(0, 16) };
}

function nameOf(dir: string, version: number, hash: string): SnapshotName {
  return {
    version,
    hash,
    paramsPath: join(dir, `${version}-${hash}.safetensors`),
    optimizerPath: join(dir, `${version}-${hash}.optimizer.safetensors`),
  };
}

function requireHash(path: string, part: string, values: Float32Array, expected: string | undefined): void {
  const found = hashParams(values);
  if (found !== expected) throw new Error(`${path}: ${part} has hash ${found}, expected ${expected}`);
}
