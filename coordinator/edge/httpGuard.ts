/** @file The HTTP server before any route: deadlines for slow peers, bounds on connections and requests, and the Host header. */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createAddressCounts, createAddressRates } from "./addressLimits.ts";
import { connectionsInAll, connectionsPerAddress, requestRate } from "./limits.ts";
import type { Limits } from "./limits.ts";
import { hostProblem, originProblem } from "./origin.ts";
import type { OriginPolicy } from "./origin.ts";
import { isTrusted, peerAddress } from "./peerAddress.ts";
import type { TrustedProxies } from "./peerAddress.ts";
import { sameSecret } from "./secret.ts";

export type EdgeConfig = {
  readonly limits: Limits;
  readonly proxies: TrustedProxies;
  readonly origins: OriginPolicy;
  /** Known to the workers that this coordinator starts, and to nobody else: they are not limited. */
  readonly ownKey: string;
  readonly onNotice: (text: string) => void;
  readonly nowMs: () => number;
};

export type HttpGuard = {
  /** Whom limits count a request for; null for a worker that this coordinator started. */
  readonly addressOf: (request: IncomingMessage) => string | null;
  /** Null when a WebSocket may be opened by this request. */
  readonly originProblem: (request: IncomingMessage) => string | null;
  /** False when the request was answered already: too fast, or for a host that is not this one. */
  readonly admits: (request: IncomingMessage, response: ServerResponse) => boolean;
};

/** A request's head takes one round trip; who dribbles it out is holding a socket, no more. */
const HEADERS_TIMEOUT_MS = 10_000;

/** Bodies have a few kilobytes, and only those of the operator's requests are read. */
const REQUEST_TIMEOUT_MS = 20_000;

/** Of a connection on which nothing moves, in either direction. */
const IDLE_TIMEOUT_MS = 60_000;

const CHECK_EVERY_MS = 1000;

/** Browsers send about 20. */
const MAX_HEADERS = 64;

export function createGuardedServer(limits: Limits): Server {
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_EVERY_MS,
    keepAliveTimeout: 5000,
  });
  server.timeout = IDLE_TIMEOUT_MS;
  server.maxHeadersCount = MAX_HEADERS;
  server.maxConnections = connectionsInAll(limits);
  return server;
}

export function guardHttp(server: Server, config: EdgeConfig): HttpGuard {
  const { limits, proxies, origins, ownKey, onNotice, nowMs } = config;
  const open = createAddressCounts(connectionsPerAddress(limits));
  const requests = createAddressRates(requestRate(limits));
  let proxyNoticed = false;

  server.on("connection", (socket) => {
    // All who come through a proxy share its address here; what they ask is counted by theirs.
    if (isTrusted(socket.remoteAddress, proxies)) return;
    const address = peerAddress(socket.remoteAddress, undefined, proxies);
    if (!open.enter(address)) {
      socket.destroy();
      return;
    }
    socket.once("close", () => open.leave(address));
  });

  function addressOf(request: IncomingMessage): string | null {
    if (isOwn(request)) return null;
    const { remoteAddress } = request.socket;
    const forwardedFor = request.headers["x-forwarded-for"];
    if (forwardedFor !== undefined && !proxyNoticed && !isTrusted(remoteAddress, proxies)) {
      proxyNoticed = true;
      onNotice(`${remoteAddress} sends X-Forwarded-For and is not trusted: all who come through it count as one address. If it is your proxy: --trust-proxy ${remoteAddress}`); // prettier-ignore
    }
    return peerAddress(remoteAddress, forwardedFor?.toString(), proxies);
  }

  function isOwn({ headers }: IncomingMessage): boolean {
    return sameSecret(headers.authorization ?? "", `Bearer ${ownKey}`);
  }

  return {
    addressOf,
    originProblem: (request) => {
      const host = hostOf(request, proxies);
      return hostProblem(host, origins) ?? originProblem(request.headers.origin, host, origins);
    },
    admits(request, response) {
      const problem = hostProblem(hostOf(request, proxies), origins);
      if (problem !== null) {
        refuse(response, 421, problem);
        return false;
      }
      const address = addressOf(request);
      if (address === null || requests.take(address, 1, nowMs())) return true;
      response.setHeader("Retry-After", String(Math.ceil(requests.waitMs(address, 1, nowMs()) / 1000)));
      refuse(response, 429, `more than ${limits.requestsPerSecond} requests per second`);
      return false;
    },
  };
}

/** The host that the peer asked for: a trusted proxy says it where it asks for another one itself. */
function hostOf({ headers, socket }: IncomingMessage, proxies: TrustedProxies): string | undefined {
  const forwarded = headers["x-forwarded-host"];
  return typeof forwarded === "string" && isTrusted(socket.remoteAddress, proxies) ? forwarded : headers.host;
}

/** Closes: what else the peer has sent on this connection is not looked at. */
function refuse(response: ServerResponse, status: number, reason: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", Connection: "close" }).end(`${reason}\n`);
}
