import { describe as group, expect, test } from "vitest";
import { initialSession, type SessionState } from "../../../../shared/worker/session.ts";
import type { OverviewState } from "../../../../worker-browser/volunteer/overview.ts";
import type { VolunteerState } from "../../../../worker-browser/volunteer/volunteer.ts";
import { describe } from "../../../../worker-browser/volunteer/words.ts";

const overview: OverviewState = {
  name: "known",
  run: "speeches",
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
  reason: "1 of 3 units is in",
};

function joined(session: Partial<SessionState>, lastWorkMs = 0): VolunteerState {
  return { name: "joined", session: { ...initialSession(null), ...session }, device: "amd rdna-3", lastWorkMs };
}

group("the words of the page", () => {
  test("a visitor sees the run before deciding, and nothing about a part not taken yet", () => {
    const view = describe({ name: "idle" }, overview, 0);
    expect(view.button).toEqual({ label: "Lend a hand", stops: false });
    expect(view.run).toMatchObject({ name: "speeches", steps: "30 of 200", done: 0.15, trainLoss: "3.250" });
    expect(view.run).toMatchObject({ validationLoss: "–", workers: "2" });
    expect(view.run.about).toContain("815 thousand parameters");
    expect(view.mine).toBeNull();
  });

  test("a coordinator that does not answer is trouble, said before joining", () => {
    expect(describe({ name: "idle" }, { name: "unreachable" }, 0)).toMatchObject({ tone: "trouble" });
  });

  test("a worker sees its own share of the run", () => {
    const view = describe(joined({ phase: { name: "working" }, leases: new Set([1]), progress }, 5000), overview, 5100);
    expect(view).toMatchObject({ tone: "working", headline: "Training", button: { stops: true } });
    expect(view.mine).toMatchObject({ tokens: "1,500", share: "3.0 % of the run", speed: "300" });
    expect(view.run).toMatchObject({ steps: "41 of 200", reason: "1 of 3 units is in" });
  });

  test("[I7] every fallback is named with its reason", () => {
    const fallbacks = [{ backend: "webgpu", reason: "no adapter" }] as const;
    const view = describe(joined({ phase: { name: "working" }, engine: { backend: "wasm", fallbacks } }), overview, 0);
    expect(view.mine?.backend).toBe("WebAssembly");
    expect(view.mine?.fallbacks).toEqual([{ backend: "WebGPU", reason: "no adapter" }]);
  });

  test("an instant without work between two rounds is not called waiting; longer than that is, with the reason", () => {
    const state = joined({ phase: { name: "working" }, progress }, 10_000);
    expect(describe(state, overview, 11_000).headline).toBe("Training");
    expect(describe(state, overview, 13_000)).toMatchObject({
      headline: "Waiting for work",
      detail: "1 of 3 units is in.",
    });
  });

  test("offline: the reason, and no figures that are no longer true", () => {
    const phase = { name: "offline", retryAtMs: 0, reason: "the coordinator does not answer" } as const;
    const view = describe(joined({ phase, progress }), overview, 0);
    expect(view.detail).toBe("The coordinator does not answer. Trying again by itself.");
    expect(view.mine?.speed).toBe("–");
    expect(view.run).toMatchObject({ speed: "–", workers: "–", reason: "" });
  });

  test("a refusal for good is told in the coordinator's words", () => {
    const view = describe({ name: "over", ok: false, reason: "bad-token: this run asks for a token", session: null }, overview, 0); // prettier-ignore
    expect(view).toMatchObject({ tone: "trouble", detail: "Bad-token: this run asks for a token.", mine: null });
  });

  test("after a stop the run goes on without this tab, and its figures come from the status page again", () => {
    const engine = { backend: "webgpu", fallbacks: [] } as const;
    const session = { ...initialSession(null), progress, engine };
    const view = describe({ name: "over", ok: true, reason: "stopped by the volunteer", session }, overview, 0);
    expect(view.headline).toBe("Stopped");
    expect(view.run.steps).toBe("30 of 200");
    expect(view.mine).toMatchObject({ tokens: "1,500", speed: "–" });
  });

  test("the loss is told with what blind guessing would have", () => {
    const run = { model: { vocabulary: 65 } } as SessionState["run"];
    expect(describe(joined({ run }), overview, 0).run.lossHint).toContain("4.174");
  });
});
