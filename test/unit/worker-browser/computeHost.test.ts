import { beforeEach, expect, test, vi } from "vitest";
import type { ComputeCommand, ComputeEvent } from "../../../shared/worker/commands.ts";
import { createComputeHost } from "../../../worker-browser/computeHost.ts";
import type { ComputeToSession, SessionToCompute, SmallerPieces } from "../../../worker-browser/messages.ts";

/** Stands for the browser's Worker: keeps what it is told, and says what the test makes it say. */
class ScriptedWorker extends EventTarget {
  static all: ScriptedWorker[] = [];
  readonly told: SessionToCompute[] = [];
  terminated = false;

  constructor() {
    super();
    ScriptedWorker.all.push(this);
  }

  postMessage(message: SessionToCompute): void {
    this.told.push(structuredClone(message));
  }

  terminate(): void {
    this.terminated = true;
  }

  says(message: ComputeToSession): void {
    this.dispatchEvent(new MessageEvent("message", { data: message }));
  }
}

vi.stubGlobal("Worker", ScriptedWorker);

const prepare = { type: "prepare", url: "http://host", run: { name: "r" } } as unknown as ComputeCommand;
const load = { type: "load", snapshot: { path: "/s", version: 1, hash: "00" } } as unknown as ComputeCommand;
const broken = {
  type: "broken",
  backend: "webgpu",
  reason: "the graphics device was lost",
  outOfMemoryWith: null,
} as const;

let events: ComputeEvent[];
let gaveUp: string[];
let smaller: SmallerPieces[];

beforeEach(() => {
  ScriptedWorker.all = [];
  events = [];
  gaveUp = [];
  smaller = [];
});

function host(force: string | null = null) {
  return createComputeHost({
    force,
    onEvent: (event) => events.push(event),
    onDevice: () => {},
    onKernels: () => {},
    onWarmUp: () => {},
    onFetched: () => {},
    onSmallerPieces: (pieces) => smaller.push(pieces),
    onGivingUp: (reason) => gaveUp.push(reason),
  });
}

const newest = (): ScriptedWorker => ScriptedWorker.all.at(-1)!;
const commands = (worker: ScriptedWorker) => worker.told.map((told) => (told.type === "command" ? told.command.type : told)); // prettier-ignore

test("a thread that breaks is replaced at the next command, and the new one is told of the run first", () => {
  const { command } = host();
  command(prepare);
  command(load);
  const first = newest();
  first.says(broken);
  expect(first.terminated).toBe(true);
  expect(events).toEqual([{ type: "failed", during: "work", message: broken.reason }]);
  command({ type: "forget" });
  expect(ScriptedWorker.all).toHaveLength(1);
  command(load);
  expect(commands(newest())).toEqual([
    { type: "choice", choice: { force: null, avoid: [], rows: null } },
    "prepare",
    "load",
  ]);
});

test("[I7] a backend that broke twice is not tried a third time, and its reason is kept", () => {
  const { command } = host();
  for (let times = 0; times < 2; times++) {
    command(prepare);
    newest().says(broken);
  }
  command(prepare);
  expect(newest().told[0]).toEqual({
    type: "choice",
    choice: { force: null, avoid: [{ backend: "webgpu", reason: broken.reason }], rows: null },
  });
});

test("a backend that was asked for by name is not avoided", () => {
  const { command } = host("webgpu");
  for (let times = 0; times < 3; times++) {
    command(prepare);
    expect(newest().told[0]).toEqual({ type: "choice", choice: { force: "webgpu", avoid: [], rows: null } });
    newest().says(broken);
  }
});

test("[I5] gives up after eight failures without a piece of work between them", () => {
  const { command } = host();
  for (let failure = 1; failure <= 8; failure++) {
    command(prepare);
    newest().dispatchEvent(Object.assign(new Event("error", { cancelable: true }), { message: "out of memory" }));
    expect(gaveUp).toHaveLength(failure === 8 ? 1 : 0);
  }
  expect(gaveUp[0]).toContain("out of memory");
});

test("gives up at once where no backend works", () => {
  const { command } = host();
  command(prepare);
  newest().says({ type: "unable", reason: "nothing here can compute" });
  expect(gaveUp).toEqual(["nothing here can compute"]);
});

test("work done between failures starts the count again", () => {
  const { command } = host();
  for (let failure = 0; failure < 20; failure++) {
    command(prepare);
    newest().says({ type: "event", event: { type: "evaluation" } as ComputeEvent });
    newest().dispatchEvent(Object.assign(new Event("error", { cancelable: true }), { message: "x" }));
  }
  expect(gaveUp).toEqual([]);
});

test("what a replaced thread still says is not heard", () => {
  const { command } = host();
  command(prepare);
  const first = newest();
  first.says(broken);
  first.says({ type: "event", event: { type: "nearlyIdle" } });
  expect(events.map(({ type }) => type)).toEqual(["failed"]);
});

test("terminate stops at once and for good", () => {
  const { command, terminate } = host();
  command(prepare);
  terminate();
  expect(newest().terminated).toBe(true);
  command(load);
  expect(ScriptedWorker.all).toHaveLength(1);
});

test("[I7] a backend that runs out of memory takes half as much at a time, down to one window, and then another is taken", () => {
  const { command } = host();
  const rows: (number | null)[] = [];
  for (let tried = 12; ; tried = Math.ceil(tried / 2)) {
    command(prepare);
    const told = newest().told[0]!;
    if (told.type !== "choice") throw new Error("the choice comes first");
    rows.push(told.choice.rows);
    newest().says({ ...broken, reason: "out of memory", outOfMemoryWith: tried });
    if (tried === 1) break;
  }
  expect(rows).toEqual([null, 6, 3, 2, 1]);
  expect(smaller.map((pieces) => pieces.rows)).toEqual([6, 3, 2, 1]);
  expect(gaveUp).toEqual([]);
  command(prepare);
  newest().says({ ...broken, reason: "out of memory", outOfMemoryWith: 1 });
  command(prepare);
  expect(newest().told[0]).toEqual({
    type: "choice",
    choice: { force: null, avoid: [{ backend: "webgpu", reason: "out of memory" }], rows: null },
  });
});

test("the pace reaches a thread that is started later, and starts none", () => {
  const { command } = host();
  command({ type: "pace", dutyCycle: 0.5 });
  expect(ScriptedWorker.all).toHaveLength(0);
  command(prepare);
  expect(newest().told[1]).toEqual({ type: "command", command: { type: "pace", dutyCycle: 0.5 } });
});
