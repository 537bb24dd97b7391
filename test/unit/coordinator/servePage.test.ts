import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { Hono } from "hono";
import { afterEach, beforeEach, expect, test } from "vitest";
import { servePage } from "../../../coordinator/edge/files.ts";

let dir: string;
let app: Hono;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-pages-"));
  writeFileSync(join(dir, "app.js"), "console.log('hello')");
  writeFileSync(join(dir, "app.js.gz"), gzipSync("console.log('hello')"));
  writeFileSync(join(dir, "plain.css"), "body {}");
  app = new Hono();
  app.get("/:file", (context) => servePage(context, dir, context.req.param("file"), "no-cache"));
});

afterEach(() => rmSync(dir, { recursive: true }));

test("who takes gzip gets the gzipped copy, as what it is", async () => {
  const response = await app.request("/app.js", { headers: { "Accept-Encoding": "br;q=1.0, gzip;q=0.8" } });
  expect(response.headers.get("Content-Encoding")).toBe("gzip");
  expect(response.headers.get("Content-Type")).toBe("text/javascript; charset=utf-8");
  expect(response.headers.get("Vary")).toBe("Accept-Encoding");
  expect(gunzipSync(await response.arrayBuffer()).toString()).toBe("console.log('hello')");
});

test("who does not, and what has no copy, is served as it is", async () => {
  for (const [path, accepted] of [
    ["/app.js", "br"],
    ["/app.js", ""],
    ["/plain.css", "gzip"],
  ] as const) {
    const response = await app.request(path, { headers: { "Accept-Encoding": accepted } });
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Encoding")).toBeNull();
    expect(response.headers.get("Vary")).toBe("Accept-Encoding");
    expect(await response.text()).toMatch(/hello|body/);
  }
  expect((await app.request("/none.js", { headers: { "Accept-Encoding": "gzip" } })).status).toBe(404);
});
