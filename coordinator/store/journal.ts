/**
 * @file The journal: what AdamW was fed since the last snapshot, so that a killed coordinator takes the same steps again
 * and arrives at the same bits.
 *
 * `journal-<version>.bin` holds the steps after snapshot <version>, one fixed-size record each: a header of
 * {@link RECORD_HEADER_BYTES}, then the gradient [P] f32. Fixed sizes make a record's place a multiplication, so the
 * arena's threads write their slices at once. A record counts when its header and gradient agree with their checksums;
 * the first that does not ends the journal (a torn tail, or what a called-off step left there).
 */

import { writeSync } from "node:fs";
import { open, readdir, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { hashChunk, hashParams } from "../../shared/numerics/hash.ts";
import { syncFolder } from "./durably.ts";

/** What a step needs to be taken again, the gradient apart. */
export type RecordHeader = {
  /** The version that the step leads to. */
  readonly version: number;
  /** t of AdamW. */
  readonly step: number;
  readonly tokens: number;
  readonly learningRate: number;
  /** P. */
  readonly length: number;
  /** Of the gradient, as hashParams makes it. */
  readonly gradientHash: string;
  /** Of θ_pub before the step. */
  readonly baseHash: string;
};

export type JournalRecord = RecordHeader & { readonly gradient: Float32Array };

export type Journal = {
  readonly path: string;
  readonly fd: number;
  /** The snapshot that the steps follow. */
  readonly snapshotVersion: number;
  /** Where the next record goes. */
  readonly offset: number;
  readonly records: number;
};

/** 16 words of fields, 2 of checksum, the rest zero. */
export const RECORD_HEADER_BYTES = 128;
const FIELD_WORDS = 16;
/** "MHJ1" */
const MAGIC = 0x314a484d;
const NAME = /^journal-(\d{1,15})\.bin$/;

/** Bytes of one record. */
export function recordBytes(length: number): number {
  return RECORD_HEADER_BYTES + 4 * length;
}

export function encodeRecordHeader(header: RecordHeader): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(RECORD_HEADER_BYTES / 4);
  const fields = new DataView(words.buffer);
  fields.setUint32(0, MAGIC, true);
  fields.setUint32(4, header.length, true);
  [header.version, header.step, header.tokens, header.learningRate].forEach((value, index) => {
    fields.setFloat64(8 + 8 * index, value, true);
  });
  setHash(words, 10, header.gradientHash);
  setHash(words, 12, header.baseHash);
  hashChunk(words, 0, FIELD_WORDS, words, FIELD_WORDS);
  return new Uint8Array(words.buffer);
}

/** The header, or null when these bytes are none. */
export function decodeRecordHeader(bytes: Uint8Array): RecordHeader | null {
  if (bytes.length !== RECORD_HEADER_BYTES) return null;
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  const fields = new DataView(words.buffer);
  const checksum = new Uint32Array(2);
  hashChunk(words, 0, FIELD_WORDS, checksum, 0);
  if (words[0] !== MAGIC || words[FIELD_WORDS] !== checksum[0] || words[FIELD_WORDS + 1] !== checksum[1]) return null;
  return {
    length: fields.getUint32(4, true),
    version: fields.getFloat64(8, true),
    step: fields.getFloat64(16, true),
    tokens: fields.getFloat64(24, true),
    learningRate: fields.getFloat64(32, true),
    gradientHash: hashAt(words, 10),
    baseHash: hashAt(words, 12),
  };
}

/** Writes all of `bytes` at `position`. @throws Error of the file system. */
export function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

function setHash(words: Uint32Array, at: number, hash: string): void {
  words[at] = Number.parseInt(hash.slice(0, 8), 16);
  words[at + 1] = Number.parseInt(hash.slice(8), 16);
}

function hashAt(words: Uint32Array, at: number): string {
  return [words[at]!, words[at + 1]!].map((word) => word.toString(16).padStart(8, "0")).join("");
}

export type JournalFile = {
  readonly journal: () => Journal;
  /** A record was written at `offset`. */
  readonly appended: () => void;
  readonly close: () => Promise<void>;
};

export function journalPath(dir: string, snapshotVersion: number): string {
  return join(dir, `journal-${snapshotVersion}.bin`);
}

/**
 * Opens the journal of a snapshot to append behind its first `records` records; what lies beyond is cut off.
 * @throws Error of the file system.
 */
export async function openJournal({
  dir,
  snapshotVersion,
  length,
  records = 0,
  sync = false,
}: {
  dir: string;
  snapshotVersion: number;
  length: number;
  records?: number;
  /** The file's name, too, must survive a power cut. */
  sync?: boolean;
}): Promise<JournalFile> {
  const path = journalPath(dir, snapshotVersion);
  const handle = await open(path, records === 0 ? "w+" : "r+");
  try {
    await handle.truncate(records * recordBytes(length));
    if (sync) await syncFolder(dir);
  } catch (error) {
    await handle.close();
    throw error;
  }
  let count = records;
  return {
    journal: () => ({ path, fd: handle.fd, snapshotVersion, offset: count * recordBytes(length), records: count }),
    appended() {
      count += 1;
    },
    close: () => handle.close(),
  };
}

/**
 * The records of a journal in order, up to the first that is torn, belongs to another layout, or does not follow on the
 * one before. The gradient is overwritten by the next record. A journal that does not exist has no records.
 */
export async function* readJournal(path: string, length: number): AsyncGenerator<JournalRecord, void> {
  const handle = await openIfThere(path);
  if (handle === null) return;
  try {
    const header = new Uint8Array(RECORD_HEADER_BYTES);
    const gradient = new Float32Array(length);
    const bytes = new Uint8Array(gradient.buffer);
    let previous: RecordHeader | null = null;
    for (let offset = 0; ; offset += recordBytes(length)) {
      if (!(await fill(handle, header, offset))) return;
      const record = decodeRecordHeader(header);
      if (record === null || record.length !== length) return;
      if (previous !== null && record.version !== previous.version + 1) return;
      if (!(await fill(handle, bytes, offset + RECORD_HEADER_BYTES))) return;
      if (hashParams(gradient) !== record.gradientHash) return;
      yield { ...record, gradient };
      previous = record;
    }
  } finally {
    await handle.close();
  }
}

/** Removes the journals of snapshots that `unwanted` says. */
export async function removeJournals(dir: string, unwanted: (snapshotVersion: number) => boolean): Promise<void> {
  for (const name of await readdir(dir)) {
    const match = NAME.exec(name);
    if (match !== null && unwanted(Number(match[1]))) await rm(join(dir, name), { force: true });
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Reads exactly `bytes.length` bytes at `offset`; false when the file ends before. */
async function fill(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<boolean> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, offset + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}
