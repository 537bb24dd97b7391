/** @file The two common formats of token files: nanoGPT's (uint16 ids, nothing else) and llm.c's (the same behind a header). */

import { bytesToTokens, tokensToBytes } from "./tokenSource.ts";

/** Source: llm.c, dev/data/data_common.py (`write_datafile`, model "gpt-2"): 256 int32, of which three are used. */
const LLMC_MAGIC = 20240520;
const LLMC_VERSION = 1;
const LLMC_HEADER_BYTES = 256 * 4;
/** llm.c's files of uint32 ids (Llama 3), which do not fit into ours. */
const LLMC_WIDE_MAGIC = 20240801;

export type BinFormat = "nanogpt" | "llm.c";

/** @throws Error when the file is neither, is cut short, or has uint32 ids. */
export function readBin(bytes: Uint8Array): { format: BinFormat; tokens: Uint16Array } {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = bytes.length >= 12 ? header.getInt32(0, true) : 0;
  if (magic === LLMC_WIDE_MAGIC) throw new Error("an llm.c file of uint32 ids; only uint16 ids are supported");
  if (magic === LLMC_MAGIC) {
    const [version, count] = [header.getInt32(4, true), header.getInt32(8, true)];
    if (version !== LLMC_VERSION) throw new Error(`an llm.c file of version ${version}, not ${LLMC_VERSION}`);
    if (bytes.length !== LLMC_HEADER_BYTES + 2 * count)
      throw new Error(
        `an llm.c file of ${count} tokens has ${LLMC_HEADER_BYTES + 2 * count} bytes, not ${bytes.length}`,
      );
    return { format: "llm.c", tokens: bytesToTokens(bytes.subarray(LLMC_HEADER_BYTES)) };
  }
  if (bytes.length % 2 !== 0) throw new Error(`${bytes.length} bytes, not a whole number of uint16 ids`);
  return { format: "nanogpt", tokens: bytesToTokens(bytes) };
}

/** @throws RangeError when llm.c's int32 count cannot hold the number of tokens. */
export function writeBin(tokens: Uint16Array, format: BinFormat): Uint8Array {
  if (format === "nanogpt") return tokensToBytes(tokens);
  if (tokens.length >= 2 ** 31) throw new RangeError(`${tokens.length} tokens; an llm.c file holds fewer than 2^31`);
  const bytes = new Uint8Array(LLMC_HEADER_BYTES + tokens.byteLength);
  const header = new DataView(bytes.buffer);
  header.setInt32(0, LLMC_MAGIC, true);
  header.setInt32(4, LLMC_VERSION, true);
  header.setInt32(8, tokens.length, true);
  bytes.set(tokensToBytes(tokens), LLMC_HEADER_BYTES);
  return bytes;
}
