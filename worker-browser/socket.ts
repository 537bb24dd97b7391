/** @file A worker's transport over the browser's WebSocket. */
import type { Transport, TransportHandlers } from "../shared/wire/transport.ts";

/** Unsent bytes: two contributions of a 100 M-parameter model. Beyond it the uplink is too slow for this run. */
const MAX_BUFFERED_BYTES = 1024 * 1024 * 1024;

/** A server that accepts a connection and never answers it would otherwise be waited for until the tab is closed. */
const OPEN_TIMEOUT_MS = 10_000;

export function connectSocket(
  url: string,
  handlers: TransportHandlers,
  onBytes: (direction: "up" | "down", bytes: number) => void = () => {},
): Transport {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  let opened = false;
  let reason: string | null = null;
  const openTimer = setTimeout(() => {
    reason ??= `the coordinator did not answer within ${OPEN_TIMEOUT_MS / 1000} s`;
    socket.close();
  }, OPEN_TIMEOUT_MS);
  socket.addEventListener("open", () => {
    opened = true;
    clearTimeout(openTimer);
    handlers.onOpen();
  });
  socket.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    if (data instanceof ArrayBuffer) onBytes("down", data.byteLength);
    // A text frame becomes an empty one: not a frame, and refused as such.
    handlers.onFrame(data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array());
  });
  // Browsers say nothing of why; whether it ever opened is all there is to know.
  socket.addEventListener("close", ({ code, reason: theirs }) => {
    clearTimeout(openTimer);
    const unknown = opened ? `the connection was lost (${code})` : "the coordinator does not answer";
    handlers.onClose(reason ?? (theirs === "" ? unknown : theirs));
  });
  return {
    send: (bytes, onSent) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > MAX_BUFFERED_BYTES) {
        reason = `the uplink is too slow: ${socket.bufferedAmount} bytes are unsent`;
        socket.close(1000);
        return;
      }
      // Copies.
      socket.send(bytes);
      onBytes("up", bytes.length);
      onSent?.();
    },
    close: (why) => {
      reason ??= why;
      // 123 bytes are what a close frame has room for; a reason of non-ASCII letters may need three bytes each.
      socket.close(1000, why.slice(0, 40));
    },
  };
}
