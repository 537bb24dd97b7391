/** @file The built pages behind a server of their own, with a scripted coordinator and a scripted session thread. */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext } from "playwright-core";
import { build, preview } from "vite";
import type { Status } from "../../coordinator/status.ts";
import { initialSession, type SessionState } from "../../shared/worker/session.ts";

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
  "run" | "parameters" | "version" | "steps" | "tokens" | "tokensPerSecond" | "trainLoss" | "validationLoss"
> & { readonly workers: readonly unknown[] };

export async function answerStatus(context: BrowserContext, status: StatusSubset | "down"): Promise<void> {
  await context.unroute("**/status");
  await context.route("**/status", (route) => (status === "down" ? route.abort() : route.fulfill({ json: status })));
}

/**
 * Replaces the session thread: on "join" it shows `states` at once, one after the other; on "stop" it does what the real one
 * does. `device` is told last.
 */
export async function scriptSession(
  context: BrowserContext,
  states: readonly Partial<SessionState>[],
  device = "google swiftshader",
): Promise<void> {
  const shown = states.map((state) => ({ ...initialSession(null), ...state, leases: [...(state.leases ?? [])] }));
  const script = `
    self.onmessage = ({ data }) => {
      if (data.type === "join") {
        for (const state of ${JSON.stringify(shown)}) postMessage({ type: "state", state: { ...state, leases: new Set(state.leases) } });
        postMessage({ type: "device", device: ${JSON.stringify(device)} });
      } else self.close();
    };`;
  await context.unroute("**/session-*.js");
  await context.route("**/session-*.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
}
