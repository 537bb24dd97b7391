/** @file The HTTP side (Hono): health, status, metrics, and everything large and immutable. */
import { Hono } from "hono";
import type { ErrorHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { Registry } from "prom-client";
import { IMMUTABLE, serveFile, servePage } from "./files.ts";
import type { Publisher } from "../optimizer/publish.ts";
import { SNAPSHOT_PATH } from "../optimizer/publish.ts";
import { hasSnapshot } from "../store/snapshot.ts";
import { SOCKET_PATH } from "./sockets.ts";
import type { StepGraphs } from "./stepGraphs.ts";
import { BOARD_PATH, type Board, type Status } from "../../shared/wire/status.ts";

export type HttpConfig = {
  /** Folder with the corpus: manifest, tokenizer, shards. */
  readonly corpusDir: string;
  /** Names its content, so that what is fetched may be kept for ever, by any cache. */
  readonly corpusId: string;
  /** Folder with the built pages. */
  readonly pagesDir: string;
  readonly publisher: Publisher;
  readonly registry: Registry;
  readonly status: () => Status;
  readonly board: () => Board;
  readonly snapshotDir: string;
  /** What the operator's pages read. */
  readonly dashboard: Hono;
  /** What changes the run. */
  readonly admin: Hono;
  /** What browsers compile. */
  readonly stepGraphs: StepGraphs;
  readonly onError: ErrorHandler;
};

/** Where the corpus is served, below its id. */
export const CORPUS_PATH = "/corpus/";

export function createHttp({
  corpusDir,
  corpusId,
  pagesDir,
  publisher,
  registry,
  status,
  board,
  snapshotDir,
  dashboard,
  admin,
  stepGraphs,
  onError,
}: HttpConfig): Hono {
  const app = new Hono();
  app.use("*", pageHeaders);
  app.get("/healthz", (context) => context.text("ok\n", 200, { "Cache-Control": "no-store" }));
  app.get("/status", (context) => context.json(status(), 200, { "Cache-Control": "no-store" }));
  app.get(BOARD_PATH, (context) => context.json(board(), 200, { "Cache-Control": "no-store" }));
  app.get("/metrics", async (context) =>
    context.body(await registry.metrics(), 200, { "Content-Type": registry.contentType, "Cache-Control": "no-store" }),
  );
  // Whoever meets this asked for a WebSocket, and a proxy on the way made a plain request of it.
  app.get(SOCKET_PATH, (context) =>
    context.text("this is a WebSocket; a proxy on the way must pass the headers Upgrade and Connection\n", 426, {
      Connection: "Upgrade",
      Upgrade: "websocket",
    }),
  );
  app.get(`${CORPUS_PATH}${corpusId}/:file`, (context) =>
    serveFile(context, corpusDir, context.req.param("file"), IMMUTABLE),
  );
  app.get(`${SNAPSHOT_PATH}:file`, async (context) => {
    const name = context.req.param("file");
    const bytes = publisher.snapshot(name);
    if (bytes === null) {
      return (await hasSnapshot(snapshotDir, name))
        ? serveFile(context, snapshotDir, name, IMMUTABLE)
        : context.notFound();
    }
    return context.body(bytes, 200, { "Content-Type": "application/octet-stream", "Cache-Control": IMMUTABLE });
  });
  app.route("/", dashboard);
  app.route("/", admin);
  app.route("/", stepGraphs.routes);
  app.get("/assets/:file", (context) => servePage(context, `${pagesDir}/assets`, context.req.param("file"), IMMUTABLE));
  // The page itself must be asked for again: it names the assets of the build in use.
  app.get("/", (context) => {
    // Whoever opens it is likely to join.
    stepGraphs.prepare();
    return servePage(context, pagesDir, "index.html", "no-cache");
  });
  app.onError(onError);
  app.notFound((context) => context.text("not found\n", 404));
  return app;
}

/**
 * Pages load nothing from elsewhere, talk to nobody else, and are shown in nobody's frame. Compiling WebAssembly is allowed, for
 * the tfjs backend of that name; evaluating text as a script is not. TLS, and so HSTS, is the proxy's.
 */
const pageHeaders = secureHeaders({
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
    workerSrc: ["'self'"],
    manifestSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
  referrerPolicy: "no-referrer",
  xFrameOptions: "DENY",
  crossOriginOpenerPolicy: "same-origin",
  crossOriginResourcePolicy: "same-origin",
  strictTransportSecurity: false,
});

/** Answers a request that failed for a reason of ours, a file that cannot be read or a bug, and reports it. */
export function answerFailure(report: (text: string) => void): ErrorHandler {
  return (error, context) => {
    // Peers go away in the middle of what they send: no failure of ours, and nothing to fill a log with.
    if ((error as NodeJS.ErrnoException).code !== "ECONNRESET") {
      report(`${context.req.method} ${context.req.path}: ${error.message}`.slice(0, 500));
    }
    return context.text("this request failed; the run's events say why\n", 500);
  };
}
