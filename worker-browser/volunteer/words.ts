/** @file What the page says: from the state to words and numbers, as a pure function. app.tsx puts them on the screen. */
import type { KindOfKernel } from "../../shared/engine/wgsl/kernelTimes.ts";
import type { Backend } from "../../shared/engine/engine.ts";
import type { SessionState } from "../../shared/worker/session.ts";
import type { WarmUp } from "../messages.ts";
import { about, bytes, count, exact, fixed, percent } from "../pages/format.ts";
import type { OverviewState } from "./overview.ts";
import type { Preferences } from "./preferences.ts";
import { say } from "./say.ts";
import type { VolunteerState } from "./volunteer.ts";

/** What the main button does. */
export type Action = "join" | "takeOver" | "stop";

export type View = {
  /** Colours the headline: nothing yet, getting there, at work, resting, trouble, done. */
  readonly tone: "idle" | "busy" | "working" | "resting" | "trouble" | "done";
  readonly headline: string;
  readonly detail: string;
  /** The coordinator's or the browser's own words beside ours; empty when there are none. They are English. */
  readonly reason: string;
  readonly button: { readonly label: string; readonly action: Action };
  /** Null when this tab does not take part. */
  readonly pause: { readonly label: string; readonly isPaused: boolean } | null;
  readonly run: {
    readonly name: string;
    readonly about: string;
    /** 0 … 1, or null when not known. */
    readonly done: number | null;
    readonly steps: string;
    readonly trainLoss: string;
    readonly validationLoss: string;
    readonly lossHint: string;
    readonly speed: string;
    readonly workers: string;
  };
  /** Null when this tab never came to take part. */
  readonly mine: null | {
    readonly backend: string;
    readonly device: string;
    readonly notes: readonly { readonly what: string; readonly reason: string }[];
    readonly speed: string;
    readonly busy: string;
    readonly tokens: string;
    readonly share: string;
    readonly steps: string;
    readonly rank: string;
    readonly rankOf: string;
    /** What a step of this device is made of; null where it cannot tell, empty until it was asked and answered. */
    readonly kernels: null | readonly KernelLine[];
  };
  /** What this tab moved over the network; empty before it did. */
  readonly data: string;
};

export type KernelLine = { readonly name: string; readonly ms: string; readonly share: string; readonly speed: string };

/** Between two rounds a worker is without work for a moment; a headline that flickers tells nothing. */
const IDLE_AFTER_MS = 2000;

export function describe({
  state,
  overview,
  preferences,
  paused,
  nowMs,
}: {
  readonly state: VolunteerState;
  readonly overview: OverviewState;
  readonly preferences: Preferences;
  readonly paused: boolean;
  readonly nowMs: number;
}): View {
  const session = state.name === "joined" || state.name === "over" ? state.session : null;
  return {
    ...status(state, overview, preferences, nowMs),
    pause: state.name === "joined" ? { label: say(paused ? "resume" : "pause"), isPaused: paused } : null,
    run: run(state, session, overview),
    mine: mine(state, session),
    data: data(state),
  };
}

type Status = Pick<View, "tone" | "headline" | "detail" | "reason" | "button">;
type Said = Omit<Status, "button">;

function status(state: VolunteerState, overview: OverviewState, preferences: Preferences, nowMs: number): Status {
  const join = { label: say("join"), action: "join" } as const;
  const again = { label: say("joinAgain"), action: "join" } as const;
  switch (state.name) {
    case "idle":
      if (overview.name === "unreachable") {
        return { tone: "trouble", headline: say("unreachable"), detail: say("unreachableDetail"), reason: "", button: join }; // prettier-ignore
      }
      return { tone: "idle", headline: say("ready"), detail: say("readyDetail"), reason: "", button: join };
    case "elsewhere":
      return { tone: "trouble", headline: say("elsewhere"), detail: say("elsewhereDetail"), reason: "", button: { label: say("takeOver"), action: "takeOver" } }; // prettier-ignore
    case "moved":
      return { tone: "done", headline: say("moved"), detail: say("movedDetail"), reason: "", button: { label: say("takeOver"), action: "takeOver" } }; // prettier-ignore
    case "over":
      if (!state.ok) {
        const button = { label: say("retry"), action: "join" } as const;
        return { tone: "trouble", headline: say("failed"), detail: "", reason: sentence(state.reason), button };
      }
      if (state.reason === "the run is finished") {
        return { tone: "done", headline: say("finished"), detail: say("finishedDetail"), reason: "", button: again };
      }
      return { tone: "done", headline: say("stopped"), detail: say("stoppedDetail"), reason: "", button: again };
    case "joined":
      return {
        ...atWork(state, preferences, nowMs),
        button: { label: say("stop"), action: "stop" },
      };
    default:
      return state satisfies never;
  }
}

function atWork(
  { session, warmUp, usage, lastWorkMs }: Extract<VolunteerState, { name: "joined" }>,
  preferences: Preferences,
  nowMs: number,
): Said {
  const phase = session?.phase ?? { name: "connecting" };
  const notice = session?.notice ?? null;
  switch (phase.name) {
    case "connecting":
    case "greeting":
      return { tone: "busy", headline: say("connecting"), detail: say("connectingDetail"), reason: sentence(notice) };
    case "loading":
      return { tone: "busy", headline: say("loading"), detail: gettingReady(warmUp), reason: sentence(notice) }; // prettier-ignore
    case "working": {
      if (nowMs - lastWorkMs < IDLE_AFTER_MS) {
        return { tone: "working", headline: say("training"), detail: say("trainingDetail"), reason: "" };
      }
      const reason = sentence(notice ?? session?.progress?.reason ?? null);
      return { tone: "busy", headline: say("waiting"), detail: say("waitingDetail"), reason };
    }
    case "offline":
      return { tone: "trouble", headline: say("lost"), detail: say("retrying"), reason: sentence(phase.reason) };
    case "resting": {
      const limitBytes = (preferences.megabytesPerHour ?? 0) * 1e6;
      if (phase.reason === "data") {
        const values = { used: bytes(usage?.bytesLastHour ?? 0), limit: bytes(limitBytes), need: bytes(usage?.returnBytes ?? 0) }; // prettier-ignore
        const isTooSmall = (usage?.returnBytes ?? 0) > limitBytes;
        return { tone: "resting", headline: say("dataUsed"), detail: say(isTooSmall ? "dataTooSmall" : "dataUsedDetail", values), reason: "" }; // prettier-ignore
      }
      if (phase.reason === "battery") {
        return { tone: "resting", headline: say("onBattery"), detail: say("onBatteryDetail"), reason: "" };
      }
      if (phase.reason === "frozen") {
        return { tone: "resting", headline: say("asleep"), detail: say("asleepDetail"), reason: "" };
      }
      return { tone: "resting", headline: say("paused"), detail: say("pausedDetail"), reason: "" };
    }
    case "ended":
      return { tone: "done", headline: say("stopped"), detail: "", reason: sentence(phase.reason) };
    default:
      return phase satisfies never;
  }
}

function gettingReady(warmUp: WarmUp | null): string {
  // A download that is over is not what is waited for.
  if (warmUp === null || (warmUp.name === "download" && warmUp.bytes === warmUp.totalBytes))
    return say("loadingDetail");
  if (warmUp.name === "compile") return say("compiling", { programs: String(warmUp.programs) });
  const done = bytes(warmUp.bytes);
  if (warmUp.totalBytes === null) return say("loadingBytes", { done });
  return say("loadingBytesOf", { done, total: bytes(warmUp.totalBytes) });
}

function run(state: VolunteerState, session: SessionState | null, overview: OverviewState): View["run"] {
  const known = overview.name === "known" ? overview : null;
  const progress = session?.progress ?? null;
  // Whichever is fresher: the coordinator's messages while this tab takes part, its status page otherwise.
  const now = state.name === "joined" ? (progress ?? known) : (known ?? progress);
  const isLive = state.name !== "joined" || (session?.phase.name !== "offline" && session?.phase.name !== "resting");
  const model = session?.run?.model ?? null;
  return {
    name: session?.run?.name ?? known?.run ?? "",
    about: known === null ? say("aboutUnknown") : (known.about ?? say("aboutRun", { parameters: about(known.parameters), corpus: known.corpus })), // prettier-ignore
    done: now === null || now.steps === 0 ? null : Math.min(1, now.version / now.steps),
    steps: now === null ? say("unknown") : say("runProgress", { version: exact(now.version), steps: exact(now.steps) }),
    trainLoss: fixed(now?.trainLoss ?? null, 3),
    validationLoss: fixed(now?.validationLoss ?? null, 3),
    lossHint: model === null ? say("lossHint") : say("lossHintGuess", { guess: fixed(Math.log(model.vocabulary), 3) }),
    speed: now === null || !isLive ? say("unknown") : count(now.tokensPerSecond),
    workers: now === null || !isLive ? say("unknown") : count(now.workers),
  };
}

function mine(state: VolunteerState, session: SessionState | null): View["mine"] {
  if (state.name === "idle" || state.name === "elsewhere" || state.name === "moved") return null;
  const engine = session?.engine ?? null;
  if (state.name === "over" && engine === null) return null;
  const joined = state.name === "joined" ? state : null;
  const progress = session?.progress ?? null;
  const rank = progress?.yourRank ?? null;
  const isWorking = joined !== null && session?.phase.name === "working";
  const usage = joined?.usage ?? null;
  const notes = (engine?.fallbacks ?? []).map(({ backend, reason }) => ({
    what: say(backend === engine?.backend ? "usedInPart" : "notUsed", { backend: backendNames[backend] }),
    reason,
  }));
  const pieces = joined?.smallerPieces ?? null;
  if (pieces !== null && (engine === null || pieces.backend === engine.backend)) {
    const { backend, rows, reason } = pieces;
    notes.push({ what: say("smallerPieces", { backend: backendNames[backend], rows: String(rows) }), reason });
  }
  return {
    backend: engine === null ? say("unknown") : backendNames[engine.backend],
    device: joined?.device ?? "",
    notes,
    speed: progress !== null && isWorking ? count(progress.yourTokensPerSecond) : say("unknown"),
    busy: usage === null || usage.workingMs < 5000 || !isWorking ? "" : say("busyShare", { share: percent(Math.min(1, usage.computeMs / usage.workingMs)) }), // prettier-ignore
    tokens: progress === null ? say("unknown") : count(progress.yourTokens),
    share: progress === null || progress.tokens === 0 ? "" : say("myShare", { share: percent(progress.yourTokens / progress.tokens) }), // prettier-ignore
    steps: progress === null ? say("unknown") : count(progress.yourRounds),
    rank: rank === null ? say("unknown") : count(rank),
    kernels: joined?.kernels === undefined || joined.kernels === null ? null : kernelLines(joined.kernels.kinds ?? []),
    rankOf: rank === null ? "" : say("myRankOf", { contributors: count(progress?.contributors ?? 0) }),
  };
}

/** Names are those of the code: whoever opens this wants them. */
function kernelLines(kinds: readonly KindOfKernel[]): KernelLine[] {
  const all = kinds.reduce((sum, { ms }) => sum + ms, 0);
  return kinds.map(({ name, dispatches, ms, flops }) => ({
    name: `${name} ×${dispatches}`,
    ms: fixed(ms, ms < 10 ? 2 : 0),
    share: percent(all === 0 ? 0 : ms / all),
    speed: ms === 0 ? "–" : fixed(flops / ms / 1e6, 1),
  }));
}

function data(state: VolunteerState): string {
  const usage = state.name === "joined" ? state.usage : null;
  if (usage === null || usage.bytesLastHour === 0) return "";
  return say("dataNow", { used: bytes(usage.bytesLastHour), round: bytes(usage.roundBytes) });
}

const backendNames: Readonly<Record<Backend, string>> = {
  onnx: "ONNX Runtime",
  webgpu: "WebGPU",
  webgl: "WebGL",
  wasm: "WebAssembly",
  cpu: "JavaScript",
};

function sentence(text: string | null): string {
  const trimmed = (text ?? "").trim();
  if (trimmed === "") return "";
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}
