/** @file The seam between the protocol and a socket: Node's `ws`, a browser's WebSocket, a pair in memory. */

export type TransportHandlers = {
  readonly onOpen: () => void;
  /** One frame. The bytes belong to the receiver. */
  readonly onFrame: (bytes: Uint8Array) => void;
  /** Once, whoever closed, also when opening failed; after it nothing arrives. */
  readonly onClose: (reason: string) => void;
};

export type Transport = {
  /**
   * Queues one frame. Does nothing after the close. `onSent` is called when the bytes are not needed any more: they may be
   * overwritten then, and not before.
   */
  send(bytes: Uint8Array<ArrayBuffer>, onSent?: () => void): void;
  /** Sends what is queued, then closes. `onClose` still follows. */
  close(reason: string): void;
};
