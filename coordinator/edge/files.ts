/** @file Immutable files over HTTP, with Range: shards of the corpus and the built pages. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { Readable } from "node:stream";
import type { Context } from "hono";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** What is named by its content never changes. */
export const IMMUTABLE = "public, max-age=31536000, immutable";

/**
 * Answers with the file `name` below `folder`, or the part that a Range header asks for; 404 for what is not a file there,
 * 416 for a range outside it. One range a request: nobody here asks for more.
 */
export async function serveFile(
  context: Context,
  folder: string,
  name: string,
  cacheControl: string,
): Promise<Response> {
  const path = join(folder, name);
  if (!path.startsWith(folder + sep) || name.includes("\0")) return context.notFound();
  const found = await stat(path).catch(() => null);
  if (found === null || !found.isFile()) return context.notFound();
  const headers: Record<string, string> = {
    "Content-Type": types[extname(path)] ?? "application/octet-stream",
    "Cache-Control": cacheControl,
    "Accept-Ranges": "bytes",
    "X-Content-Type-Options": "nosniff",
  };
  const range = parseRange(context.req.header("range"), found.size);
  if (range === "unsatisfiable") {
    return new Response(null, {
      status: 416,
      headers: { ...headers, "Content-Length": "0", "Content-Range": `bytes */${found.size}` },
    });
  }
  const { start, end } = range ?? { start: 0, end: found.size };
  headers["Content-Length"] = String(end - start);
  if (range !== null) headers["Content-Range"] = `bytes ${start}-${end - 1}/${found.size}`;
  const body = end > start && context.req.method !== "HEAD" ? Readable.toWeb(createReadStream(path, { start, end: end - 1 })) : null; // prettier-ignore
  return new Response(body as ReadableStream | null, { status: range === null ? 200 : 206, headers });
}

/** A file of the built pages: the gzipped one beside it (vite.config.ts makes them) for who takes that. */
export async function servePage(
  context: Context,
  folder: string,
  name: string,
  cacheControl: string,
): Promise<Response> {
  const accepted = (context.req.header("accept-encoding") ?? "")
    .split(",")
    .map((coding) => coding.split(";")[0]?.trim());
  const gzipped = accepted.includes("gzip") ? await serveFile(context, folder, `${name}.gz`, cacheControl) : null;
  const response = gzipped?.status === 200 ? gzipped : await serveFile(context, folder, name, cacheControl);
  if (response === gzipped) {
    response.headers.set("Content-Encoding", "gzip");
    response.headers.set("Content-Type", types[extname(name)] ?? "application/octet-stream");
  }
  response.headers.append("Vary", "Accept-Encoding");
  return response;
}

/** `bytes=a-b`, `bytes=a-` or `bytes=-n` as [start, end); null when there is none or it is of another form (RFC 9110 §14.2: ignore). */
export function parseRange(
  header: string | undefined,
  size: number,
): { start: number; end: number } | "unsatisfiable" | null {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return null;
  const [first, last] = [match[1] ?? "", match[2] ?? ""];
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  if (first !== "" && last !== "" && Number(last) < Number(first)) return null;
  return start >= size || end <= start ? "unsatisfiable" : { start, end };
}
