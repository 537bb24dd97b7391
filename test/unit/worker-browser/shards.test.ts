import { createHash } from "node:crypto";
import { beforeEach, expect, test, vi } from "vitest";
import { createFetcher } from "../../../worker-browser/shards.ts";

/** A server of one file with Range, and a browser's Cache: as much of both as is used. */
let files: Map<string, Uint8Array>;
let requests: string[];
let stores: Map<string, Map<string, Uint8Array>>;
let ignoreRange = false;
let quota: number;
let fetched: number;
let shown: number[];

const ports = {
  onProgress: (bytes: number) => void shown.push(bytes),
  onFetched: (bytes: number) => void (fetched += bytes),
};

beforeEach(() => {
  files = new Map();
  requests = [];
  stores = new Map();
  ignoreRange = false;
  quota = Infinity;
  fetched = 0;
  shown = [];
});

vi.stubGlobal("fetch", async (url: string, { headers }: { headers?: { Range: string } }) => {
  requests.push(headers === undefined ? url : `${url} ${headers.Range}`);
  const bytes = files.get(url);
  if (bytes === undefined) return new Response("not found", { status: 404 });
  if (headers === undefined || ignoreRange) return new Response(bytes.slice());
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.Range) ?? [];
  return new Response(bytes.slice(Number(first), Number(last) + 1), { status: 206 });
});

vi.stubGlobal("caches", {
  keys: async () => [...stores.keys()],
  delete: async (name: string) => stores.delete(name),
  open: async (name: string) => {
    const store = stores.get(name) ?? new Map<string, Uint8Array>();
    stores.set(name, store);
    return {
      keys: async () => [...store.keys()].map((url) => ({ url })),
      match: async (url: string) => (store.has(url) ? new Response(store.get(url)!.slice()) : undefined),
      put: async (url: string, response: Response) => {
        const bytes = new Uint8Array(await response.arrayBuffer());
        if (bytes.length > quota) throw new DOMException("no room", "QuotaExceededError");
        store.set(url, bytes);
      },
    };
  },
});

const manifest = "http://host/corpus/manifest.json";
const shard = "http://host/corpus/train-0.bin";
const pieceBytes = 20;
const range = { start: 20, end: 40 };
const content = Uint8Array.from({ length: 50 }, (_, i) => 3 * i);

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function serve(name: string): void {
  const pieces = [0, 20, 40].map((start) => sha256(content.subarray(start, start + pieceBytes)));
  const shards = [{ file: "train-0.bin", tokens: 25, bytes: 50, sha256: sha256(content), pieces }];
  const described = {
    format: 1,
    name,
    tokenizer: { kind: "char", file: "tokenizer.json", vocabulary: 9, sha256: sha256(content) },
    pieceBytes,
    splits: { train: { tokens: 25, shards }, val: { tokens: 0, shards: [] } },
  };
  files.set(manifest, new TextEncoder().encode(JSON.stringify(described)));
  files.set(shard, content);
}

test("a range is asked for once, then comes from the cache, in this visit and the next", async () => {
  serve("one");
  for (let visit = 0; visit < 2; visit++) {
    const fetchBytes = createFetcher(ports);
    await fetchBytes(manifest);
    for (let times = 0; times < 2; times++) {
      expect(await fetchBytes(shard, range)).toEqual(content.slice(20, 40));
    }
  }
  expect(requests).toEqual([manifest, `${shard} bytes=20-39`, manifest]);
  const manifestBytes = files.get(manifest)!.length;
  expect(fetched, "what the cache gave is not counted").toBe(2 * manifestBytes + 20);
  expect(shown.at(-1)).toBe(manifestBytes);
});

test("pieces of another corpus at the same address are forgotten, and never handed out", async () => {
  serve("one");
  const before = createFetcher(ports);
  await before(manifest);
  await before(shard, range);
  serve("another");
  const after = createFetcher(ports);
  await after(manifest);
  requests.length = 0;
  await after(shard, range);
  expect(requests).toEqual([`${shard} bytes=20-39`]);
  expect(stores.size).toBe(1);
});

test("a bad download is not handed out again", async () => {
  serve("one");
  const fetchBytes = createFetcher(ports);
  await fetchBytes(manifest);
  files.set(shard, content.toReversed());
  await fetchBytes(shard, range);
  files.set(shard, content);
  expect(await fetchBytes(shard, range)).toEqual(content.slice(20, 40));
});

test("a full disk costs the cache, not the training", async () => {
  serve("one");
  quota = 0;
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const fetchBytes = createFetcher(ports);
  await fetchBytes(manifest);
  for (let times = 0; times < 3; times++) expect(await fetchBytes(shard, range)).toHaveLength(20);
  expect(warn).toHaveBeenCalledTimes(1);
  warn.mockRestore();
});

test("a server that ignores Range, a range past the end and a missing file are errors that name the file", async () => {
  serve("one");
  const fetchBytes = createFetcher(ports);
  await expect(fetchBytes(shard, { start: 40, end: 60 })).rejects.toThrow(`${shard}: 10 bytes for the range 40–60`);
  ignoreRange = true;
  await expect(fetchBytes(shard, range)).rejects.toThrow(`${shard}: HTTP 200`);
  await expect(fetchBytes("http://host/none")).rejects.toThrow("http://host/none: HTTP 404");
});
