/** @file The built pages behind a server of their own, with a scripted coordinator and a scripted session thread. */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext } from "playwright-core";
import { build, preview } from "vite";
import type { Board, Status } from "../../shared/wire/status.ts";
import { initialSession, type SessionState } from "../../shared/worker/session.ts";
import type { SessionToPage } from "../../worker-browser/messages.ts";
import type { Curve } from "../../worker-browser/volunteer/curve.ts";

export type ServedPages = { readonly url: string; readonly close: () => Promise<void> };

/** A build of its own: other tests, and a coordinator that runs here, use dist/pages. */
export async function servePages(): Promise<ServedPages> {
  const folder = await mkdtemp(join(tmpdir(), "manyhands-pages-"));
  const configFile = join(import.meta.dirname, "../../vite.config.ts");
  await build({ configFile, logLevel: "error", build: { outDir: folder } });
  const server = await preview({ configFile, build: { outDir: folder }, preview: { port: 0 } });
  const url = server.resolvedUrls?.local[0];
  if (url === undefined) throw new Error("the preview server has no address");
  return {
    url,
    close: async () => {
      await server.close();
      rmSync(folder, { recursive: true });
    },
  };
}

export type StatusSubset = Pick<
  Status,
  | "run"
  | "about"
  | "corpus"
  | "parameters"
  | "version"
  | "steps"
  | "tokens"
  | "tokensPerSecond"
  | "trainLoss"
  | "validationLoss"
> & { readonly workers: readonly unknown[] };

export async function answerStatus(context: BrowserContext, status: StatusSubset | "down"): Promise<void> {
  await context.unroute("**/status");
  await context.route("**/status", (route) => (status === "down" ? route.abort() : route.fulfill({ json: status })));
}

export async function answerCurves(context: BrowserContext, curve: Curve): Promise<void> {
  await context.route("**/dashboard/curves*", (route) => route.fulfill({ json: curve }));
}

export async function answerBoard(context: BrowserContext, board: Board): Promise<void> {
  await context.route("**/board", (route) => route.fulfill({ json: board }));
}

/**
 * Replaces the session thread: on "join" it shows `states` at once, one after the other, then the device and `messages`; on
 * "stop" it does what the real one does.
 */
export async function scriptSession(
  context: BrowserContext,
  states: readonly Partial<SessionState>[],
  messages: readonly Exclude<SessionToPage, { type: "state" }>[] = [],
): Promise<void> {
  const after: readonly SessionToPage[] = [
    { type: "device", device: "google swiftshader", timesKernels: false },
    ...messages,
  ];
  const shown = states.map((state) => ({ ...initialSession(null), ...state, leases: [...(state.leases ?? [])] }));
  const script = `
    self.onmessage = ({ data }) => {
      if (data.type === "join") {
        for (const state of ${JSON.stringify(shown)}) postMessage({ type: "state", state: { ...state, leases: new Set(state.leases) } });
        for (const message of ${JSON.stringify(after)}) postMessage(message);
      } else if (data.type === "stop") self.close();
    };`;
  await context.unroute("**/session-*.js");
  await context.route("**/session-*.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
}
