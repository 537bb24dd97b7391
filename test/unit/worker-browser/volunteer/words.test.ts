import { beforeEach, describe as group, expect, test } from "vitest";
import { initialSession, type SessionState } from "../../../../shared/worker/session.ts";
import type { Usage } from "../../../../worker-browser/messages.ts";
import { language } from "../../../../worker-browser/pages/language.ts";
import type { OverviewState } from "../../../../worker-browser/volunteer/overview.ts";
import type { Preferences } from "../../../../worker-browser/volunteer/preferences.ts";
import type { VolunteerState } from "../../../../worker-browser/volunteer/volunteer.ts";
import { describe, type View } from "../../../../worker-browser/volunteer/words.ts";

beforeEach(() => {
  language.value = "en";
});

const known: OverviewState = {
  name: "known",
  run: "speeches",
  about: null,
  corpus: "State of the Union",
  parameters: 814_720,
  version: 30,
  steps: 200,
  tokens: 40_000,
  tokensPerSecond: 900,
  trainLoss: 3.25,
  validationLoss: null,
  workers: 2,
};

const progress: SessionState["progress"] = {
  version: 41,
  steps: 200,
  trainLoss: 3.1234,
  validationLoss: 3.2,
  tokens: 50_000,
  tokensPerSecond: 1200,
  workers: 3,
  yourTokens: 1500,
  yourTokensPerSecond: 300,
  yourRounds: 12,
  yourRank: 2,
  contributors: 5,
  reason: "1 of 3 units is in",
};

const usage: Usage = {
  bytesUp: 1e6,
  bytesDown: 3e6,
  bytesLastHour: 4e6,
  record: [],
  roundBytes: 2e6,
  returnBytes: 6e6,
  computeMs: 5000,
  workingMs: 10_000,
};

const preferences: Preferences = {
  intensity: 0.5,
  onlyPluggedIn: false,
  megabytesPerHour: null,
  name: "",
  stayAwake: false,
};

type Joined = Extract<VolunteerState, { name: "joined" }>;

function joined(session: Partial<SessionState>, change: Partial<Joined> = {}): VolunteerState {
  const shown = { ...initialSession(null), ...session };
  return { name: "joined", session: shown, device: "amd rdna-3", kernels: null, warmUp: null, smallerPieces: null, usage: null, lastWorkMs: 0, ...change }; // prettier-ignore
}

type Circumstances = {
  readonly overview?: OverviewState;
  readonly nowMs?: number;
  readonly megabytesPerHour?: number | null;
  readonly paused?: boolean;
};

function see(
  state: VolunteerState,
  { overview = known, nowMs = 0, megabytesPerHour = null, paused = false }: Circumstances = {},
): View {
  return describe({ state, overview, preferences: { ...preferences, megabytesPerHour }, paused, nowMs });
}

/** Seen while resting for this reason. */
function resting(reason: string, megabytesPerHour: number | null = null): View {
  const state = joined({ phase: { name: "resting", reason }, progress }, { usage });
  return see(state, { megabytesPerHour, paused: reason === "paused" });
}

group("the words of the page", () => {
  test("a visitor sees the run before deciding, and nothing about a part not taken yet", () => {
    const view = see({ name: "idle" });
    expect(view.button).toEqual({ label: "Lend a hand", action: "join" });
    expect(view.run).toMatchObject({ name: "speeches", steps: "Step 30 of 200", done: 0.15, trainLoss: "3.250" });
    expect(view.run).toMatchObject({ validationLoss: "–", workers: "2" });
    expect(view.run.about).toBe(
      "This run trains a language model with 815 thousand parameters on “State of the Union”.",
    );
    expect(view).toMatchObject({ mine: null, pause: null, data: "" });
  });

  test("the operator's own sentence comes first", () => {
    const about = "A model of old speeches, for the history class of 4b.";
    expect(see({ name: "idle" }, { overview: { ...known, about } }).run.about).toBe(about);
  });

  test("a coordinator that does not answer is trouble, said before joining", () => {
    expect(see({ name: "idle" }, { overview: { name: "unreachable" } })).toMatchObject({ tone: "trouble" });
  });

  test("a worker sees its own share of the run, its steps and its rank", () => {
    const view = see(joined({ phase: { name: "working" }, leases: new Set([1]), progress }, { lastWorkMs: 5000, usage }), { nowMs: 5100 }); // prettier-ignore
    expect(view).toMatchObject({ tone: "working", headline: "Training", button: { action: "stop" } });
    expect(view.mine).toMatchObject({ tokens: "1,500", share: "3.0% of the run", speed: "300", steps: "12", rank: "2", rankOf: "of 5 who helped", busy: "computing 50% of the time" }); // prettier-ignore
    expect(view.run).toMatchObject({ steps: "Step 41 of 200" });
    expect(view.data).toBe("4 MB in the last hour, 2 MB for each step.");
  });

  test("[I7] every fallback is named with its reason, and so is a memory that was too small", () => {
    const fallbacks = [{ backend: "webgpu", reason: "no adapter" }] as const;
    const engine = { backend: "wasm", fallbacks } as const;
    const smallerPieces = { backend: "wasm", rows: 6, reason: "out of memory" } as const;
    const view = see(joined({ phase: { name: "working" }, engine }, { smallerPieces }));
    expect(view.mine?.backend).toBe("WebAssembly");
    expect(view.mine?.notes).toEqual([
      { what: "WebGPU is not used:", reason: "no adapter" },
      { what: "WebAssembly ran short of memory, so it takes smaller pieces (6 at a time):", reason: "out of memory" },
    ]);
  });

  test("[I7] a part that is not used of the backend in use is named as such", () => {
    const engine = {
      backend: "webgpu",
      fallbacks: [{ backend: "webgpu", reason: "its subgroups: off by 1" }],
    } as const;
    const view = see(joined({ phase: { name: "working" }, engine }, {}));
    expect(view.mine?.notes).toEqual([{ what: "WebGPU is used only in part:", reason: "its subgroups: off by 1" }]);
  });

  test("getting ready tells what it waits for", () => {
    const phase = { name: "loading", what: "engine and parameters" } as const;
    const detail = (warmUp: Joined["warmUp"]): string => see(joined({ phase }, { warmUp })).detail;
    for (const nothing of [null, { name: "download", bytes: 9, totalBytes: 9 }] as const) {
      expect(detail(nothing)).toBe("Loading the model. The first time takes longest.");
    }
    expect(detail({ name: "download", bytes: 1.5e6, totalBytes: 3e6 })).toBe("Loading the model: 1.5 MB of 3 MB.");
    expect(detail({ name: "download", bytes: 1.5e6, totalBytes: null })).toBe("Loading the model: 1.5 MB so far.");
    expect(detail({ name: "compile", programs: 41 })).toContain("41 so far");
  });

  test("an instant without work between two rounds is not called waiting; longer than that is, with the reason", () => {
    const state = joined({ phase: { name: "working" }, progress }, { lastWorkMs: 10_000 });
    expect(see(state, { nowMs: 11_000 }).headline).toBe("Training");
    expect(see(state, { nowMs: 13_000 })).toMatchObject({
      headline: "Waiting for work",
      reason: "1 of 3 units is in.",
    });
  });

  test("offline: the reason, and no figures that are no longer true", () => {
    const phase = { name: "offline", retryAtMs: 0, reason: "the coordinator does not answer" } as const;
    const view = see(joined({ phase, progress }));
    expect(view).toMatchObject({ detail: "Trying again by itself.", reason: "The coordinator does not answer." });
    expect(view.mine?.speed).toBe("–");
    expect(view.run).toMatchObject({ speed: "–", workers: "–" });
  });

  test("resting tells why, and what would end it", () => {
    expect(resting("paused")).toMatchObject({
      tone: "resting",
      headline: "Paused",
      pause: { label: "Go on", isPaused: true },
    });
    expect(resting("battery").headline).toBe("Resting on battery");
    expect(resting("frozen").headline).toBe("Asleep");
    expect(resting("data", 8).detail).toBe(
      "4 MB in the last hour, of 8 MB. It goes on by itself when there is room again.",
    );
    expect(resting("data", 5).detail).toBe("Your limit is 5 MB an hour, and coming back to this run takes 6 MB. Raise it to go on."); // prettier-ignore
    expect(resting("data", 8).run.speed).toBe("–");
  });

  test("another tab of this browser is told of, and can be taken over from", () => {
    expect(see({ name: "elsewhere" }).button).toEqual({ label: "Work here instead", action: "takeOver" });
    expect(see({ name: "moved" })).toMatchObject({ headline: "Another tab took over", button: { action: "takeOver" } });
  });

  test("a refusal for good is told in the coordinator's words", () => {
    const view = see({ name: "over", ok: false, reason: "bad-token: this run asks for a token", session: null });
    expect(view).toMatchObject({ tone: "trouble", reason: "Bad-token: this run asks for a token.", mine: null });
  });

  test("after a stop the run goes on without this tab, and its figures come from the status page again", () => {
    const engine = { backend: "webgpu", fallbacks: [] } as const;
    const session = { ...initialSession(null), progress, engine };
    const view = see({ name: "over", ok: true, reason: "stopped by the volunteer", session });
    expect(view.headline).toBe("Stopped");
    expect(view.run.steps).toBe("Step 30 of 200");
    expect(view.mine).toMatchObject({ tokens: "1,500", speed: "–" });
  });

  test("the loss is told with what blind guessing would have", () => {
    const run = { model: { vocabulary: 65 } } as SessionState["run"];
    expect(see(joined({ run })).run.lossHint).toContain("4.174");
  });

  test("in Chinese", () => {
    language.value = "zh";
    const view = see({ name: "idle" });
    expect(view.button.label).toBe("搭把手");
    expect(view.run.about).toContain("81.5万 个参数");
  });
});
