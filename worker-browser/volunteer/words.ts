/** @file What the page says: from the state to words and numbers, as a pure function. view.ts puts them on the screen. */
import type { Backend } from "../../shared/engine/engine.ts";
import type { Fallback } from "../../shared/wire/protocol.ts";
import type { SessionState } from "../../shared/worker/session.ts";
import type { OverviewState } from "./overview.ts";
import type { VolunteerState } from "./volunteer.ts";

export type View = {
  /** Colours the headline: nothing yet, getting there, at work, trouble, done. */
  readonly tone: "idle" | "busy" | "working" | "trouble" | "done";
  readonly headline: string;
  readonly detail: string;
  readonly button: { readonly label: string; readonly stops: boolean };
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
    /** The coordinator's reason for what it is doing. */
    readonly reason: string;
  };
  /** Null when this tab never came to take part. */
  readonly mine: null | {
    readonly backend: string;
    readonly device: string;
    readonly fallbacks: readonly { readonly backend: string; readonly reason: string }[];
    readonly speed: string;
    readonly tokens: string;
    readonly share: string;
    readonly units: string;
  };
};

/** Between two rounds a worker is without work for a moment; a headline that flickers tells nothing. */
const IDLE_AFTER_MS = 2000;

const UNKNOWN = "–";

export function describe(state: VolunteerState, overview: OverviewState, nowMs: number): View {
  const session = state.name === "joined" || state.name === "over" ? state.session : null;
  return { ...status(state, overview, nowMs), run: run(state, session, overview), mine: mine(state, session) };
}

type Status = Pick<View, "tone" | "headline" | "detail" | "button">;

const JOIN = { label: "Lend a hand", stops: false } as const;
const AGAIN = { label: "Join again", stops: false } as const;
const RETRY = { label: "Try again", stops: false } as const;
const STOP = { label: "Stop", stops: true } as const;

function status(state: VolunteerState, overview: OverviewState, nowMs: number): Status {
  switch (state.name) {
    case "idle":
      if (overview.name === "unreachable") {
        return { tone: "trouble", headline: "The coordinator does not answer", detail: "You may join anyway: this page keeps trying.", button: JOIN }; // prettier-ignore
      }
      return { tone: "idle", headline: "Ready when you are", detail: "One click, nothing to install. You can stop at any moment.", button: JOIN }; // prettier-ignore
    case "elsewhere":
      return {
        tone: "trouble",
        headline: "Another tab is already helping",
        detail: "This browser takes part in another tab. A second one would only share the same processor.",
        button: RETRY,
      };
    case "over":
      if (!state.ok) return { tone: "trouble", headline: "Not taking part", detail: sentence(state.reason), button: RETRY }; // prettier-ignore
      if (state.reason === "the run is finished") {
        return { tone: "done", headline: "The run is finished", detail: "Thank you for your part in it.", button: AGAIN };
      }
      return { tone: "done", headline: "Stopped", detail: "Nothing runs here any more. Thank you for your part.", button: AGAIN }; // prettier-ignore
    case "joined":
      return { ...atWork(state.session, state.lastWorkMs, nowMs), button: STOP };
    default:
      return state satisfies never;
  }
}

function atWork(session: SessionState | null, lastWorkMs: number, nowMs: number): Omit<Status, "button"> {
  const phase = session?.phase ?? { name: "connecting" };
  const notice = session?.notice ?? null;
  switch (phase.name) {
    case "connecting":
    case "greeting":
      return { tone: "busy", headline: "Connecting…", detail: notice === null ? "Asking the coordinator for work." : sentence(notice) }; // prettier-ignore
    case "loading":
      return {
        tone: "busy",
        headline: "Getting ready…",
        detail: notice === null ? `Loading ${phase.what} and compiling programs for this device. The first time takes longest.` : sentence(notice), // prettier-ignore
      };
    case "working": {
      if (nowMs - lastWorkMs < IDLE_AFTER_MS) {
        return { tone: "working", headline: "Training", detail: "This tab is computing gradients for the next step." };
      }
      const why = notice ?? session?.progress?.reason ?? null;
      return { tone: "busy", headline: "Waiting for work", detail: why === null ? "The next piece comes soon." : sentence(why) }; // prettier-ignore
    }
    case "offline":
      return {
        tone: "trouble",
        headline: "Connection lost",
        detail: `${sentence(phase.reason)} Trying again by itself.`,
      };
    case "ended":
      return { tone: "done", headline: "Stopped", detail: sentence(phase.reason) };
    default:
      return phase satisfies never;
  }
}

function run(state: VolunteerState, session: SessionState | null, overview: OverviewState): View["run"] {
  const known = overview.name === "known" ? overview : null;
  const progress = session?.progress ?? null;
  // Whichever is fresher: the coordinator's messages while this tab takes part, its status page otherwise.
  const now = state.name === "joined" ? (progress ?? known) : (known ?? progress);
  const isLive = state.name !== "joined" || session?.phase.name !== "offline";
  const name = session?.run?.name ?? known?.run ?? "";
  const model = session?.run?.model ?? null;
  return {
    name,
    about:
      known === null
        ? ""
        : `${words.format(known.parameters)} parameters, learning to predict the next token of a text.`,
    done: now === null || now.steps === 0 ? null : Math.min(1, now.version / now.steps),
    steps: now === null ? UNKNOWN : `${exact.format(now.version)} of ${exact.format(now.steps)}`,
    trainLoss: loss(now?.trainLoss ?? null),
    validationLoss: loss(now?.validationLoss ?? null),
    lossHint:
      model === null ? "lower is better" : `lower is better; blind guessing is ${loss(Math.log(model.vocabulary))}`,
    speed: now === null || !isLive ? UNKNOWN : count(now.tokensPerSecond),
    workers: now === null || !isLive ? UNKNOWN : count(now.workers),
    reason: (state.name === "joined" && isLive && progress?.reason) || "",
  };
}

function mine(state: VolunteerState, session: SessionState | null): View["mine"] {
  if (state.name === "idle" || state.name === "elsewhere") return null;
  const engine = session?.engine ?? null;
  if (state.name === "over" && engine === null) return null;
  const progress = session?.progress ?? null;
  const tokens = progress?.yourTokens ?? 0;
  const isWorking = state.name === "joined" && session?.phase.name === "working";
  return {
    backend: engine === null ? UNKNOWN : backendNames[engine.backend],
    device: state.name === "joined" ? (state.device ?? "") : "",
    fallbacks: (engine?.fallbacks ?? []).map(({ backend, reason }: Fallback) => ({ backend: backendNames[backend], reason })), // prettier-ignore
    speed: progress !== null && isWorking ? count(progress.yourTokensPerSecond) : UNKNOWN,
    tokens: session === null ? UNKNOWN : count(tokens),
    share: progress === null || progress.tokens === 0 ? "" : `${percent(tokens / progress.tokens)} of the run`,
    units: session === null ? UNKNOWN : count(session.unitsDone),
  };
}

const backendNames: Readonly<Record<Backend, string>> = {
  onnx: "ONNX Runtime",
  webgpu: "WebGPU",
  webgl: "WebGL",
  wasm: "WebAssembly",
  cpu: "JavaScript",
};

const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const words = new Intl.NumberFormat("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

/** 12,345 up to a hundred thousand, then 1.23M. */
function count(value: number): string {
  return value < 100_000 ? exact.format(value) : compact.format(value);
}

function loss(value: number | null): string {
  return value === null ? UNKNOWN : value.toFixed(3);
}

/** A small share is worth its digits: it is somebody's. */
function percent(share: number): string {
  return `${(100 * share).toFixed(share >= 0.1 ? 0 : share >= 0.001 ? 1 : 3)} %`;
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}
