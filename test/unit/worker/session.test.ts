import { describe, expect, test } from "vitest";
import { initialSession, sessionStep } from "../../../shared/worker/session.ts";
import type { SessionConfig, SessionEffect, SessionEvent, SessionState } from "../../../shared/worker/session.ts";
import { PROTOCOL_VERSION } from "../../../shared/wire/protocol.ts";
import type { ComputeEvent } from "../../../shared/worker/commands.ts";
import type { CoordinatorMessage } from "../../../shared/wire/protocol.ts";

const config: SessionConfig = { kind: "node", name: "test", token: null, url: "http://there", seed: 7 };
const HASH = "0123456789abcdef";
const nothing = new Uint8Array();
const prepared: ComputeEvent = {
  type: "prepared",
  backend: "onnx",
  fallbacks: [],
  unitMs: 5,
  answer: { lossSum: 3, tokens: 8, sketch: Float64Array.of(1.5, -2) },
};

const welcome: CoordinatorMessage = {
  type: "welcome",
  protocolVersion: PROTOCOL_VERSION,
  worker: "w1",
  secret: "s1",
  run: {
    name: "run",
    model: { kind: "gpt", layers: 1, heads: 1, width: 4, context: 4, vocabulary: 4, bias: false, dropout: 0 },
    seed: 1,
    sampling: "shuffled",
    batch: 8,
    unit: 2,
    evaluationUnit: 2,
    steps: 10,
    codec: "f32",
    strict: true,
    manifestPath: "/corpus/x/manifest.json",
  },
  snapshot: { path: "/snapshots/3-x.safetensors", version: 3, hash: HASH },
  heartbeatMs: 1000,
};

/** The reducer with its state in hand. */
function driver() {
  let state: SessionState = initialSession(null);
  const step = (event: SessionEvent, nowMs = 0): readonly SessionEffect[] => {
    const result = sessionStep(state, event, config, nowMs);
    state = result.state;
    return result.effects;
  };
  const hear = (message: CoordinatorMessage, nowMs = 0) => step({ type: "message", message, payload: nothing }, nowMs);
  const work = (): void => {
    step({ type: "opened" });
    hear(welcome);
    step({ type: "computed", event: prepared });
    step({ type: "computed", event: { type: "loaded", version: 3, hash: HASH } });
  };
  const lease = (id: number, nowMs = 0) =>
    hear({ type: "lease", lease: id, kind: "train", base: 3, origin: 24, samples: 8, firstUnit: 0, units: 2, deadlineMs: 1e4 }, nowMs); // prettier-ignore
  return { step, hear, work, lease, state: () => state };
}

const sent = (effects: readonly SessionEffect[]) => effects.flatMap((effect) => (effect.type === "send" ? [effect.message.type] : [])); // prettier-ignore
const commands = (effects: readonly SessionEffect[]) => effects.flatMap((effect) => (effect.type === "compute" ? [effect.command.type] : [])); // prettier-ignore

describe("from hello to work", () => {
  test("hello, prepare and load, ready and the first pull", () => {
    const { step, hear, state } = driver();
    expect(sent(step({ type: "opened" }))).toEqual(["hello"]);
    expect(commands(hear(welcome))).toEqual(["prepare", "load"]);
    step({ type: "computed", event: prepared });
    const effects = step({ type: "computed", event: { type: "loaded", version: 3, hash: HASH } });
    expect(sent(effects)).toEqual(["ready", "pull"]);
    expect(effects[0]).toMatchObject({ message: { backend: "onnx", version: 3, hash: HASH } });
    expect(state().phase.name).toBe("working");
  });

  test("[I5] takes a lease for each pull: one more goes back, one sent twice counts once, a second welcome changes nothing", () => {
    const { work, lease, hear, state } = driver();
    work();
    expect(commands(lease(1))).toEqual(["work"]);
    expect(lease(1)).toEqual([]);
    expect(lease(2)).toMatchObject([{ type: "send", message: { type: "release", lease: 2 } }]);
    expect(hear(welcome)).toEqual([]);
    expect([...state().leases]).toEqual([1]);
  });

  test("pulls again when the last unit begins, once, and when a lease ends with nothing behind it", () => {
    const { step, work, lease } = driver();
    work();
    lease(1);
    expect(sent(step({ type: "computed", event: { type: "nearlyIdle" } }))).toEqual(["pull"]);
    expect(sent(step({ type: "computed", event: { type: "nearlyIdle" } }))).toEqual([]);
    lease(2);
    expect(sent(step({ type: "computed", event: { type: "leaseDone", lease: 1, dropped: 0 } }))).toEqual([]);
    expect(sent(step({ type: "computed", event: { type: "leaseDone", lease: 2, dropped: 0 } }))).toEqual(["pull"]);
  });
});

describe("when the connection is lost", () => {
  test("[P11] drops what would be refused, keeps the leases that are accepted, and pulls when none is left", () => {
    const { step, hear, work, lease, state } = driver();
    work();
    lease(4);
    step({ type: "computed", event: { type: "nearlyIdle" } });
    lease(5);
    const refused = { type: "refused", code: "already-done", message: "", fatal: false } as const;
    expect(hear({ ...refused, accept: { version: 3, lease: 4 } })).toEqual([]);
    expect(hear({ ...refused, accept: { version: 3, lease: 5 } })).toEqual([{ type: "compute", command: { type: "drop", before: 5 } }]); // prettier-ignore
    expect([...state().leases]).toEqual([5]);
    expect(hear({ ...refused, accept: { version: 3 } })).toEqual([
      { type: "compute", command: { type: "drop", before: 6 } },
      { type: "send", message: { type: "pull" } },
    ]);
    expect(state().leases.size).toBe(0);
  });

  test("work of the old connection is forgotten and its results are not sent on the new one", () => {
    const { step, work, lease, hear, state } = driver();
    work();
    lease(1);
    expect(commands(step({ type: "closed", reason: "gone" }, 100))).toEqual(["forget"]);
    expect(state().phase).toMatchObject({ name: "offline", reason: "gone" });
    step({ type: "tick" }, 100_000);
    step({ type: "opened" }, 100_000);
    const back = hear(welcome, 100_000);
    // θ is still held: no second download, only what was published meanwhile.
    expect(commands(back)).toEqual([]);
    expect(sent(back)).toEqual(["examination", "ready", "pull"]);
    const result = { lease: 1, base: 3, hash: HASH, firstUnit: 0, units: 1, tokens: 8, lossSum: 1, computeMs: 1 };
    expect(sent(step({ type: "computed", event: { type: "contribution", ...result, payload: nothing } }))).toEqual([]);
  });

  test("comes back as the same worker", () => {
    const { step, work } = driver();
    work();
    step({ type: "closed", reason: "gone" });
    step({ type: "tick" }, 100_000);
    const [hello] = step({ type: "opened" }, 100_000);
    expect(hello).toMatchObject({ message: { type: "hello", resume: { worker: "w1", secret: "s1" } } });
  });

  test("waits longer each time, up to 15 s, never all workers at once; finished work resets the wait", () => {
    const { step, work, lease, state } = driver();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 12; attempt++) {
      step({ type: "closed", reason: "refused" }, 0);
      const { phase } = state();
      waits.push(phase.name === "offline" ? phase.retryAtMs : NaN);
      step({ type: "tick" }, 1e6);
    }
    expect(waits[0]).toBeLessThanOrEqual(250);
    expect(Math.max(...waits)).toBeGreaterThan(7500);
    expect(Math.max(...waits)).toBeLessThanOrEqual(15_000);
    expect(new Set(waits.slice(8)).size).toBe(4);
    work();
    expect(state().attempts).toBe(12);
    lease(1);
    step({ type: "computed", event: { type: "leaseDone", lease: 1, dropped: 0 } });
    expect(state().attempts).toBe(0);
  });

  test("a coordinator that says nothing for three heartbeats is gone", () => {
    const { step, work, state } = driver();
    work();
    expect(sent(step({ type: "tick" }, 1500))).toEqual(["heartbeat"]);
    const effects = step({ type: "tick" }, 3100);
    expect(effects.map(({ type }) => type)).toContain("disconnect");
    expect(state().phase.name).toBe("offline");
  });
});

describe("what ends a session", () => {
  test.each(["bad-token", "protocol-version"] as const)("%s: trying again would be refused again", (code) => {
    const { step, hear, state } = driver();
    step({ type: "opened" });
    hear({ type: "refused", code, message: "no", fatal: true });
    expect(state().phase).toMatchObject({ name: "ended", ok: false });
    expect(step({ type: "tick" }, 1e6)).toEqual([]);
  });

  test("stop gives the leases back and says goodbye", () => {
    const { step, work, lease, state } = driver();
    work();
    lease(1);
    const effects = step({ type: "stop", reason: "enough" });
    expect(commands(effects)).toEqual(["forget"]);
    expect(sent(effects)).toEqual(["leave"]);
    expect(state().phase).toEqual({ name: "ended", reason: "enough", ok: true });
  });

  test("the end of the run", () => {
    const { work, hear, state } = driver();
    work();
    hear({ type: "finished", version: 10 });
    expect(state().phase).toMatchObject({ name: "ended", ok: true });
  });
});

test("[P12] a θ that diverged is reported by a hash that cannot be right, and loaded again", () => {
  const { step, work, hear, state } = driver();
  work();
  const effects = step({ type: "computed", event: { type: "diverged", version: 4, reason: "hash" } });
  expect(effects).toMatchObject([{ type: "send", message: { type: "ready", version: 4, hash: "0000000000000000" } }]);
  expect(state().phase.name).toBe("loading");
  const snapshot = { path: "/snapshots/9-x.safetensors", version: 9, hash: HASH };
  expect(commands(hear({ type: "snapshot", snapshot, reason: "resync" }))).toEqual(["forget", "load"]);
  expect(sent(step({ type: "computed", event: { type: "loaded", version: 9, hash: HASH } }))).toEqual(["ready", "pull"]); // prettier-ignore
});

describe("the examination", () => {
  test("its answer goes ahead of ready, as 64-bit numbers, in a frame that may be sent again", () => {
    const { step, hear } = driver();
    step({ type: "opened" });
    hear(welcome);
    const [effect] = step({ type: "computed", event: prepared });
    expect(effect).toMatchObject({ message: { type: "examination", backend: "onnx", lossSum: 3, tokens: 8 } });
    const payload = effect?.type === "send" ? effect.payload : undefined;
    expect([...new Float64Array(payload?.slice().buffer ?? new ArrayBuffer(0))]).toEqual([1.5, -2]);
    expect(sent(step({ type: "computed", event: { type: "loaded", version: 3, hash: HASH } }))).toEqual([
      "ready",
      "pull",
    ]);
  });

  test("a wrong answer makes it try the next engine, keep θ, and show the new answer before it is ready again", () => {
    const { step, work, lease, hear, state } = driver();
    work();
    lease(1);
    const effects = hear({ type: "refused", code: "wrong-answer", message: "the loss is off", fatal: false });
    expect(effects).toEqual([
      { type: "compute", command: { type: "forget" } },
      { type: "compute", command: { type: "replaceEngine", reason: "the loss is off" } },
    ]);
    expect(state()).toMatchObject({
      engine: null,
      phase: { name: "loading", what: "another engine" },
      held: { version: 3 },
    });
    const fallbacks = [{ backend: "onnx" as const, reason: "the loss is off" }];
    const back = step({ type: "computed", event: { ...prepared, backend: "wasm", fallbacks } });
    expect(sent(back)).toEqual(["examination", "ready", "pull"]);
    expect(back[1]).toMatchObject({ message: { type: "ready", backend: "wasm", fallbacks } });
  });

  test("a refusal while θ is still loading waits for both", () => {
    const { step, hear } = driver();
    step({ type: "opened" });
    hear(welcome);
    step({ type: "computed", event: prepared });
    hear({ type: "refused", code: "wrong-answer", message: "the loss is off", fatal: false });
    expect(sent(step({ type: "computed", event: { type: "loaded", version: 3, hash: HASH } }))).toEqual([]);
    expect(sent(step({ type: "computed", event: prepared }))).toEqual(["examination", "ready", "pull"]);
  });

  test("without another engine it ends, and says why", () => {
    const { step, work, state } = driver();
    work();
    step({ type: "computed", event: { type: "unable", reason: "no engine started" } });
    expect(state().phase).toEqual({ name: "ended", reason: "no engine started", ok: false });
  });
});

describe("a guest that is asked to rest", () => {
  test("gives its lease back, says goodbye and stays away; resume comes back as the same worker with the θ it holds", () => {
    const { step, hear, work, lease, state } = driver();
    work();
    lease(1);
    const effects = step({ type: "rest", reason: "paused" });
    expect(sent(effects)).toEqual(["leave"]);
    expect(commands(effects)).toEqual(["forget"]);
    expect(effects.at(-1)).toEqual({ type: "disconnect", reason: "paused" });
    expect(state().leases.size).toBe(0);
    // What the closing connection still brings, and time, change nothing.
    for (const event of [
      { type: "closed", reason: "1000" },
      { type: "tick" },
      { type: "message", message: welcome, payload: nothing },
      { type: "computed", event: { type: "nearlyIdle" } },
      { type: "network", reason: "back online" },
    ] as const) {
      expect(step(event, 1e6)).toEqual([]);
    }
    expect(state().phase).toEqual({ name: "resting", reason: "paused" });

    expect(step({ type: "resume" }, 1e6)).toEqual([{ type: "connect" }]);
    expect(step({ type: "opened" }, 1e6)[0]).toMatchObject({ message: { resume: { worker: "w1", secret: "s1" } } });
    expect(sent(hear(welcome, 1e6))).toEqual(["examination", "ready", "pull"]);
  });

  test("may be asked while it connects, and while it is offline", () => {
    for (const before of [{ type: "tick" }, { type: "closed", reason: "refused" }] as const) {
      const { step, state } = driver();
      step(before);
      step({ type: "rest", reason: "on battery" });
      expect(step({ type: "opened" })).toEqual([]);
      expect(step({ type: "tick" }, 1e6)).toEqual([]);
      expect(state().phase.name).toBe("resting");
    }
  });

  test("resume without rest changes nothing", () => {
    const { step, work, state } = driver();
    work();
    const before = state();
    expect(step({ type: "resume" })).toEqual([]);
    expect(state()).toBe(before);
  });
});

describe("a network that changed", () => {
  test("a connection is made anew at once, instead of being missed after three heartbeats", () => {
    const { step, work, state } = driver();
    work();
    expect(step({ type: "network", reason: "went offline" }, 100)[0]).toEqual({
      type: "disconnect",
      reason: "went offline",
    });
    expect(state().phase.name).toBe("offline");
    expect(step({ type: "tick" }, 400)).toEqual([{ type: "connect" }]);
  });

  test("who waits for the next try does not wait any longer", () => {
    const { step, state } = driver();
    for (let attempt = 0; attempt < 8; attempt++) {
      step({ type: "closed", reason: "no answer" }, attempt);
      step({ type: "tick" }, 1e6 * (attempt + 1));
    }
    step({ type: "closed", reason: "no answer" }, 1e7);
    expect(step({ type: "tick" }, 1e7 + 200)).toEqual([]);
    step({ type: "network", reason: "back online" }, 1e7 + 300);
    expect(step({ type: "tick" }, 1e7 + 400)).toEqual([{ type: "connect" }]);
    expect(state().phase.name).toBe("connecting");
  });
});
