/**
 * @file The safetensors format: 8 bytes header length (u64, little-endian), a JSON header, the tensors' bytes end to end.
 *
 * Files come from strangers' disks and from the network: reading checks every number before it is used, and allocates
 * nothing that the file's own size does not bound. Source: github.com/huggingface/safetensors, "Format".
 */

export type NamedFloats = {
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major; exactly as many elements as the shape says. */
  readonly values: Float32Array;
};

export type SafetensorsEntry = {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** A view into the file's bytes; not necessarily aligned. */
  readonly bytes: Uint8Array;
};

export type Safetensors = {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
};

declare const TextEncoder: new () => { encode(text: string): Uint8Array<ArrayBuffer> };
declare const TextDecoder: new (label: "utf-8", options: { fatal: boolean }) => { decode(bytes: Uint8Array): string };

/** Some 100,000 tensors; the reference implementation allows 100 MB. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
const MAX_RANK = 8;

const elementBytes: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/**
 * The file as pieces to be written one after the other: the header, then views of the values themselves, not copies.
 * The header is padded with spaces to a multiple of 8, so that every tensor is aligned in a mapped file.
 *
 * @throws RangeError when a name is empty, repeated or `__metadata__`, or a shape and its values disagree.
 */
export function safetensorsParts(
  tensors: readonly NamedFloats[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const header: [string, unknown][] = [["__metadata__", metadata]];
  const seen = new Set(["", "__metadata__"]);
  let offset = 0;
  for (const { name, shape, values } of tensors) {
    if (seen.has(name)) throw new RangeError(`tensor name "${name}" is empty, reserved or repeated`);
    seen.add(name);
    if (shape.reduce((product, extent) => product * extent, 1) !== values.length) {
      throw new RangeError(`tensor "${name}" of shape [${shape.join(", ")}] has ${values.length} values`);
    }
    header.push([name, { dtype: "F32", shape, data_offsets: [offset, offset + values.byteLength] }]);
    offset += values.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const start = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - 8), true);
  start.set(json, 8);
  return [start, ...tensors.map(({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength))];
}

/** The file in one piece. @throws RangeError as {@link safetensorsParts}. */
export function writeSafetensors(
  tensors: readonly NamedFloats[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const parts = safetensorsParts(tensors, metadata);
  const file = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    file.set(part, offset);
    offset += part.length;
  }
  return file;
}

/**
 * Parses a whole file; tensors are views into `file`.
 *
 * @throws Error naming what is wrong: a header that does not fit or is not JSON of the right form, an unknown dtype, a
 * shape that does not match its bytes, tensors that overlap, leave a hole or do not end where the file does.
 */
export function readSafetensors(file: Uint8Array): Safetensors {
  if (file.length < 8) throw new Error(`safetensors file of ${file.length} bytes`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const headerBytes = view.getUint32(0, true) + view.getUint32(4, true) * 4294967296;
  if (headerBytes > MAX_HEADER_BYTES || headerBytes > file.length - 8) {
    throw new Error(`safetensors header of ${headerBytes} bytes in a file of ${file.length}`);
  }
  const header = parseHeader(file.subarray(8, 8 + headerBytes));
  const data = file.subarray(8 + headerBytes);
  const tensors = new Map<string, SafetensorsEntry>();
  const ends: { name: string; begin: number; end: number }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, begin, end } = parseEntry(name, value);
    if (end > data.length) throw new Error(`tensor "${name}" ends at byte ${end} of ${data.length}`);
    tensors.set(name, { dtype, shape, bytes: data.subarray(begin, end) });
    ends.push({ name, begin, end });
  }
  let covered = 0;
  for (const { name, begin, end } of ends.sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== covered) throw new Error(`tensor "${name}" begins at byte ${begin}, expected ${covered}`);
    covered = end;
  }
  if (covered !== data.length) throw new Error(`tensors end at byte ${covered} of ${data.length}`);
  return { metadata: parseMetadata(header["__metadata__"]), tensors };
}

/** The values of an F32 tensor: a view when aligned, else a copy. @throws Error for another dtype. */
export function floatsOf(name: string, { dtype, bytes }: SafetensorsEntry): Float32Array {
  if (dtype !== "F32") throw new Error(`tensor "${name}" has dtype ${dtype}, expected F32`);
  if (bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Error("the safetensors header is not JSON", { cause: error });
  }
  if (!isRecord(header)) throw new Error("the safetensors header is not a JSON object");
  return header;
}

function parseEntry(
  name: string,
  value: unknown,
): { dtype: string; shape: readonly number[]; begin: number; end: number } {
  if (!isRecord(value)) throw new Error(`tensor "${name}" is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  const size = typeof dtype === "string" && Object.hasOwn(elementBytes, dtype) ? elementBytes[dtype] : undefined;
  if (typeof dtype !== "string" || size === undefined) {
    throw new Error(`tensor "${name}" has dtype ${JSON.stringify(dtype)?.slice(0, 40)}`);
  }
  if (!isCounts(shape) || shape.length > MAX_RANK) {
    throw new Error(`the shape of tensor "${name}" is not at most ${MAX_RANK} whole numbers`);
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw new Error(`data_offsets of tensor "${name}" are not two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, extent) => product * extent, size);
  // Beyond 2^53 the product is not exact, but then it is no file's size either.
  if (begin > end || end - begin !== bytes) {
    throw new Error(`tensor "${name}": ${dtype} [${shape.join(", ")}] needs ${bytes} bytes, has ${begin} to ${end}`);
  }
  return { dtype, shape, begin, end };
}

function parseMetadata(value: unknown): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  const entries = isRecord(value) ? Object.entries(value) : [["", null] as const];
  const strings = entries.filter((entry): entry is [string, string] => typeof entry[1] === "string");
  if (strings.length !== entries.length) throw new Error("__metadata__ is not an object of strings");
  return Object.fromEntries(strings);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
