/** @file A worker's transport over `ws`. */
import { WebSocket } from "ws";
import type { Transport, TransportHandlers } from "../shared/wire/transport.ts";
import { answerProblem, connectionProblem } from "./connectionProblem.ts";

/** @param ownKey with which a coordinator knows the workers that it started itself. */
export function connectSocket(
  url: string,
  maxPayloadBytes: number,
  ownKey: string | undefined,
  handlers: TransportHandlers,
): Transport {
  const socket = new WebSocket(url, {
    perMessageDeflate: false,
    maxPayload: maxPayloadBytes,
    handshakeTimeout: 10_000,
    ...(ownKey === undefined ? {} : { headers: { authorization: `Bearer ${ownKey}` } }),
    // Masking protects proxies from what scripts in browsers can be made to send; this process is no browser, and with a
    // zero mask ws leaves megabytes of gradients as they are.
    generateMask: (mask: Buffer) => mask.fill(0),
  });
  let reason: string | null = null;
  socket.on("open", handlers.onOpen);
  socket.on("message", (data: Buffer) => handlers.onFrame(data));
  socket.on("error", (error) => {
    reason ??= connectionProblem(error, url);
  });
  socket.on("unexpected-response", (_, { statusCode = 0 }) => {
    reason = answerProblem(statusCode, url);
    socket.terminate();
  });
  socket.on("close", () => handlers.onClose(reason ?? "connection closed"));
  return {
    send: (bytes, onSent) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(bytes, (error) => {
        if (error === undefined || error === null) onSent?.();
      });
    },
    close: (why) => {
      reason = why;
      socket.close(1000, why.slice(0, 100));
    },
  };
}
