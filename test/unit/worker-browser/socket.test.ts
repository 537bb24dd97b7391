import { beforeEach, expect, test, vi } from "vitest";
import { connectSocket } from "../../../worker-browser/socket.ts";

/** Stands for the browser's WebSocket: does what the test scripts, and closes when it is told to. */
class ScriptedSocket extends EventTarget {
  static readonly OPEN = 1;
  static last: ScriptedSocket;
  readyState = 0;
  bufferedAmount = 0;
  readonly sent: Uint8Array[] = [];

  constructor() {
    super();
    ScriptedSocket.last = this;
  }

  open(): void {
    this.readyState = ScriptedSocket.OPEN;
    this.dispatchEvent(new Event("open"));
  }

  send(bytes: Uint8Array): void {
    this.sent.push(bytes);
  }

  close(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }
}

vi.stubGlobal("WebSocket", ScriptedSocket);

let events: string[];

beforeEach(() => {
  events = [];
  vi.useFakeTimers();
});

function connect() {
  return connectSocket("ws://host/socket", {
    onOpen: () => events.push("open"),
    onFrame: (bytes) => events.push(`frame of ${bytes.length}`),
    onClose: (reason) => events.push(`closed: ${reason}`),
  });
}

test("[I5] a server that accepts a connection and never answers is given up after ten seconds", () => {
  connect();
  vi.advanceTimersByTime(9_999);
  expect(events).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(events).toEqual(["closed: the coordinator did not answer within 10 s"]);
});

test("an open connection has no such limit, and hands on frames; text is handed on as an empty frame, to be refused", () => {
  connect();
  ScriptedSocket.last.open();
  vi.advanceTimersByTime(60_000);
  ScriptedSocket.last.dispatchEvent(new MessageEvent("message", { data: new ArrayBuffer(5) }));
  ScriptedSocket.last.dispatchEvent(new MessageEvent("message", { data: "text" }));
  expect(events).toEqual(["open", "frame of 5", "frame of 0"]);
});

test("[I5] an uplink that cannot keep up is closed, not buffered without end", () => {
  const transport = connect();
  ScriptedSocket.last.open();
  transport.send(new Uint8Array(3));
  ScriptedSocket.last.bufferedAmount = 2 ** 30 + 1;
  transport.send(new Uint8Array(4));
  expect(ScriptedSocket.last.sent.map(({ length }) => length)).toEqual([3]);
  expect(events).toEqual(["open", "closed: the uplink is too slow: 1073741825 bytes are unsent"]);
});

test("why it closed: nobody there, cut off, the server's own words, or our own", () => {
  connect();
  ScriptedSocket.last.close();
  connect();
  ScriptedSocket.last.open();
  ScriptedSocket.last.close();
  connect();
  ScriptedSocket.last.open();
  ScriptedSocket.last.close(4000, "bad-token");
  connect().close("stopped by the volunteer");
  expect(events.filter((event) => event !== "open")).toEqual([
    "closed: the coordinator does not answer",
    "closed: the connection was lost (1006)",
    "closed: bad-token",
    "closed: stopped by the volunteer",
  ]);
});
