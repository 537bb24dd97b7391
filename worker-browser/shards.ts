/**
 * @file Bytes over HTTP, whole or a range; ranges of a corpus are kept in the browser's Cache, so that a volunteer who comes
 * back does not download them again. Whoever asked verifies what was fetched; what was kept is verified here, or one bad
 * download would come back for ever.
 */
import { GRAPH_INDEX_FILE } from "../shared/engine/graphIndex.ts";
import { MANIFEST_FILE, parseManifest } from "../shared/data/manifest.ts";

export type FetchBytes = (url: string, range?: { start: number; end: number }) => Promise<Uint8Array>;

/** A piece of a shard is at most 16 MiB: slower than this is slower than any deadline. */
const RANGE_TIMEOUT_MS = 60_000;

/** A snapshot of a large model over a slow link takes minutes; a server that hangs must not take for ever. */
const WHOLE_TIMEOUT_MS = 15 * 60_000;

/** On a volunteer's disk; beyond it pieces are fetched each time they are needed. */
const MAX_CACHED_BYTES = 256 * 2 ** 20;

const CACHE_PREFIX = "manyhands corpus ";

export type FetcherPorts = {
  /** Of a download that is long enough to be shown. */
  readonly onProgress: (bytes: number, totalBytes: number | null) => void;
  /** What came over the network, or may have: the browser does not tell what its own cache gave. */
  readonly onFetched: (bytes: number, url: string) => void;
};

export function createFetcher({ onProgress, onFetched }: FetcherPorts): FetchBytes {
  let pieces: PieceCache | null = null;
  return async (url, range) => {
    if (range !== undefined) {
      const cached = await pieces?.match(url, range);
      if (cached) return cached;
      const bytes = await fetchRange(url, range);
      onFetched(bytes.length, url);
      await pieces?.put(url, range, bytes);
      return bytes;
    }
    const isManifest = url.endsWith(`/${MANIFEST_FILE}`);
    // Another corpus or model may be served at the same address later: its description must not be an old one.
    const bytes = await fetchWhole(
      url,
      isManifest || url.endsWith(`/${GRAPH_INDEX_FILE}`) ? "no-cache" : "default",
      onProgress,
    );
    onFetched(bytes.length, url);
    if (isManifest) pieces = await openPieceCache(bytes);
    return bytes;
  };
}

type PieceCache = {
  match(url: string, range: { start: number; end: number }): Promise<Uint8Array | null>;
  /** Does nothing when the bound is reached, or the browser has no room. */
  put(url: string, range: { start: number; end: number }, bytes: Uint8Array): Promise<void>;
};

/** The pieces of the corpus with this manifest; those of any other are deleted. Null where the browser has no Cache for us. */
async function openPieceCache(manifest: Uint8Array): Promise<PieceCache | null> {
  if (!("caches" in globalThis)) return null;
  const digests = pieceDigests(manifest);
  const name = CACHE_PREFIX + (await sha256(manifest));
  for (const other of await caches.keys()) {
    if (other.startsWith(CACHE_PREFIX) && other !== name) await caches.delete(other);
  }
  const cache = await caches.open(name);
  let cachedBytes = 0;
  for (const { url } of await cache.keys()) {
    const [, start, end] = /bytes=(\d+)-(\d+)$/.exec(url) ?? [];
    cachedBytes += Number(end ?? 0) - Number(start ?? 0);
  }
  return {
    match: async (url, range) => {
      const response = await cache.match(key(url, range));
      if (response === undefined) return null;
      const bytes = new Uint8Array(await response.arrayBuffer());
      return (await sha256(bytes)) === digests.get(piece(url, range)) ? bytes : null;
    },
    put: async (url, range, bytes) => {
      if (cachedBytes + bytes.length > MAX_CACHED_BYTES || !digests.has(piece(url, range))) return;
      try {
        await cache.put(key(url, range), new Response(bytes.slice()));
        cachedBytes += bytes.length;
      } catch (error) {
        // The disk's quota: training goes on, and nothing more is kept.
        cachedBytes = MAX_CACHED_BYTES;
        console.warn(`pieces of the corpus are no longer kept: ${String(error)}`);
      }
    },
  };
}

/** SHA-256 of every piece, by file and range. */
function pieceDigests(manifest: Uint8Array): ReadonlyMap<string, string> {
  const { pieceBytes, splits } = parseManifest(JSON.parse(new TextDecoder().decode(manifest)));
  const digests = new Map<string, string>();
  for (const { file, bytes, pieces } of [...splits.train.shards, ...splits.val.shards]) {
    for (const [index, digest] of pieces.entries()) {
      const start = index * pieceBytes;
      digests.set(piece(file, { start, end: Math.min(start + pieceBytes, bytes) }), digest);
    }
  }
  return digests;
}

function piece(urlOrFile: string, { start, end }: { start: number; end: number }): string {
  return `${urlOrFile.slice(urlOrFile.lastIndexOf("/") + 1)} ${start}–${end}`;
}

/** Lower-case hex. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The Cache keeps no 206 responses: a range is a resource of its own here. */
function key(url: string, { start, end }: { start: number; end: number }): string {
  return `${url}?bytes=${start}-${end}`;
}

async function fetchRange(url: string, { start, end }: { start: number; end: number }): Promise<Uint8Array> {
  const response = await fetch(url, {
    headers: { Range: `bytes=${start}-${end - 1}` },
    cache: "no-store",
    signal: AbortSignal.timeout(RANGE_TIMEOUT_MS),
  });
  if (response.status !== 206) throw new Error(`${url}: HTTP ${response.status} where a range was asked for`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length !== end - start) throw new Error(`${url}: ${bytes.length} bytes for the range ${start}–${end}`);
  return bytes;
}

async function fetchWhole(
  url: string,
  cache: RequestCache,
  onProgress: FetcherPorts["onProgress"],
): Promise<Uint8Array> {
  const response = await fetch(url, { cache, signal: AbortSignal.timeout(WHOLE_TIMEOUT_MS) });
  if (!response.ok || response.body === null) throw new Error(`${url}: HTTP ${response.status}`);
  const declared = Number(response.headers.get("Content-Length") ?? 0);
  const totalBytes = declared > 0 && !response.headers.has("Content-Encoding") ? declared : null;
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    onProgress(length, totalBytes);
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}
