/**
 * @file Reads tokens of a split from wherever its shards are (a folder, an HTTP server), in pieces that are verified,
 * cached up to a bound, and fetched once however many readers wait for them.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import type { Shard, Split } from "./manifest.ts";

/** Bytes start … end−1 of a shard. */
export type ReadRange = (file: string, start: number, end: number) => Promise<Uint8Array>;

export type TokenSource = {
  /** n: tokens of the split. */
  readonly tokens: number;
  /**
   * Tokens start … start+count−1.
   *
   * @throws RangeError outside the split; {@link ShardMismatch} when the bytes are not the manifest's; what readRange throws.
   */
  read(start: number, count: number): Promise<Uint16Array>;
};

/** The bytes read are not those that were prepared. Reading again may help; using them would not. */
export class ShardMismatch extends Error {
  readonly file: string;

  constructor(file: string, message: string) {
    super(message);
    this.name = "ShardMismatch";
    this.file = file;
  }
}

/** Holds the default corpus whole; of a larger one, the pieces used last. */
const DEFAULT_CACHE_BYTES = 32 * 2 ** 20;

export function tokenSource({
  split,
  pieceBytes,
  readRange,
  cacheBytes = DEFAULT_CACHE_BYTES,
}: {
  readonly split: Split;
  readonly pieceBytes: number;
  readonly readRange: ReadRange;
  readonly cacheBytes?: number;
}): TokenSource {
  const pieceTokens = pieceBytes / 2;
  /** First token of each shard. */
  const starts: number[] = [];
  let total = 0;
  for (const shard of split.shards) {
    starts.push(total);
    total += shard.tokens;
  }

  /** Verified pieces, the least recently used first. */
  const cache = new Map<string, Uint16Array>();
  const loading = new Map<string, Promise<Uint16Array>>();
  let cachedBytes = 0;

  const load = async (shard: Shard, piece: number): Promise<Uint16Array> => {
    const start = piece * pieceBytes;
    const end = Math.min(start + pieceBytes, shard.bytes);
    const bytes = await readRange(shard.file, start, end);
    if (bytes.length !== end - start)
      throw new ShardMismatch(shard.file, `${shard.file}: got ${bytes.length} bytes of ${start}–${end}`);
    const hash = bytesToHex(sha256(bytes));
    if (hash !== shard.pieces[piece])
      throw new ShardMismatch(shard.file, `${shard.file}: bytes ${start}–${end} hash to ${hash.slice(0, 12)}…, not to the manifest's ${shard.pieces[piece]?.slice(0, 12)}…`); // prettier-ignore
    return bytesToTokens(bytes);
  };

  const remember = (key: string, tokens: Uint16Array): void => {
    cache.set(key, tokens);
    cachedBytes += tokens.byteLength;
    for (const [oldest, { byteLength }] of cache) {
      if (cachedBytes <= cacheBytes) break;
      cache.delete(oldest);
      cachedBytes -= byteLength;
    }
  };

  const pieceOf = (shardIndex: number, piece: number): Promise<Uint16Array> | Uint16Array => {
    const key = `${shardIndex}:${piece}`;
    const cached = cache.get(key);
    if (cached) {
      cache.delete(key);
      cache.set(key, cached);
      return cached;
    }
    const pending = loading.get(key);
    if (pending) return pending;
    const shard = split.shards[shardIndex];
    if (!shard) throw new RangeError(`shard ${shardIndex} of ${split.shards.length}`);
    const started = load(shard, piece)
      .then((tokens) => {
        remember(key, tokens);
        return tokens;
      })
      .finally(() => loading.delete(key));
    loading.set(key, started);
    return started;
  };

  return {
    tokens: total,
    async read(start, count) {
      if (!Number.isInteger(start) || !Number.isInteger(count) || start < 0 || count < 0 || start + count > total)
        throw new RangeError(`tokens ${start} … ${start + count} of a split of ${total}`);
      const tokens = new Uint16Array(count);
      let shard = lastAtOrBelow(starts, start);
      for (let done = 0; done < count;) {
        const position = start + done - (starts[shard] ?? 0);
        if (position >= (split.shards[shard]?.tokens ?? 0)) {
          shard++;
          continue;
        }
        const piece = Math.floor(position / pieceTokens);
        const from = position - piece * pieceTokens;
        const part = (await pieceOf(shard, piece)).subarray(from, from + count - done);
        tokens.set(part, done);
        done += part.length;
      }
      return tokens;
    },
  };
}

/**
 * Little-endian uint16; every platform that runs JavaScript engines today is little-endian. A view where the bytes are all of
 * their buffer (a piece that was fetched: copies of each would be as much memory again), else a copy, for they may be unaligned.
 */
export function bytesToTokens(bytes: Uint8Array): Uint16Array {
  // Not `slice`: that of a Node Buffer, which files are read into, does not copy.
  const whole = bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
  return new Uint16Array(whole.buffer);
}

/** A view, not a copy. */
export function tokensToBytes(tokens: Uint16Array): Uint8Array {
  return new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
}

/** Index of the last element ≤ value in an ascending list that begins with 0. */
function lastAtOrBelow(ascending: readonly number[], value: number): number {
  let [low, high] = [0, ascending.length];
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] ?? 0) <= value) low = middle;
    else high = middle;
  }
  return low;
}
