/** @file What a container's supervisor asks a worker: is it alive, and is it of use? */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { OperatorError } from "../shared/operatorError.ts";
import type { SessionState } from "../shared/worker/session.ts";

/**
 * `GET /healthz`: 200 while this process answers; one whose coordinator is away is alive, and restarting it would help nobody.
 * `GET /readyz`: 200 while it takes leases, else 503; in both the body says what it does.
 *
 * @returns the port, and a function that ends it. @throws OperatorError when the port cannot be had.
 */
export async function serveHealth(
  port: number,
  state: () => SessionState,
): Promise<{ port: number; close: () => void }> {
  const server = createServer((request, response) => {
    const { phase } = state();
    const path = request.url ?? "/";
    const status = path === "/healthz" || (path === "/readyz" && phase.name === "working") ? 200 : 503;
    const why = "reason" in phase ? `: ${phase.reason}` : "";
    response
      .writeHead(path === "/healthz" || path === "/readyz" ? status : 404, { "Cache-Control": "no-store" })
      .end(`${phase.name}${why}\n`);
  });
  // All interfaces: Kubernetes asks from outside the container. It tells no more than that.
  server.listen(port);
  await once(server, "listening").catch((error: unknown) => {
    throw new OperatorError(`--health-port ${port}: ${(error as Error).message}; must be a free port`);
  });
  server.unref();
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}
