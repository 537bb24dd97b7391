/**
 * @file The volunteer's page. Besides the button there are parameters in its address, for operators and tests:
 * `?join` joins at once · `?backend=webgpu|webgl|wasm|cpu` uses only that one · `?name=…` is shown to the operator ·
 * `?language=en|zh` · `#token=…`, as in an invite: what stands behind # is sent to no server, and so is in no log.
 */
import { effect, signal } from "@preact/signals";
import type { Board } from "../../shared/wire/status.ts";
import { showPage } from "../pages/page.ts";
import "./style.css";
import { App } from "./app.tsx";
import { type Place, placesOf, watchBoard } from "./board.ts";
import { emptyCurve, extendCurve, MAX_POINTS, readCurve } from "./curve.ts";
import type { Curve } from "./curve.ts";
import { recallIdentity } from "./identity.ts";
import { watchOverview } from "./overview.ts";
import type { OverviewState } from "./overview.ts";
import { MAX_NAME_LENGTH, recallData, recallPreferences, rememberData, rememberPreferences } from "./preferences.ts";
import type { Preferences } from "./preferences.ts";
import { canStayAwake, createAwakeness, watchSituation } from "./situation.ts";
import type { Situation } from "./situation.ts";
import { createVolunteer } from "./volunteer.ts";
import type { VolunteerState } from "./volunteer.ts";
import { describe } from "./words.ts";
import type { Action } from "./words.ts";

/** The run as seen from outside, while this tab takes no part in it. */
const OVERVIEW_MS = 3000;

/** Places on the board change slowly. */
const BOARD_MS = 10_000;

/** The session says something many times a second; nobody reads faster than this. */
const SHOW_MS = 200;

const parameters = new URLSearchParams(location.search);

const preferences = signal<Preferences>(withParameters(recallPreferences()));
const situation = signal<Situation>({ pluggedIn: null, frozen: false });
const paused = signal(false);
const volunteering = signal<VolunteerState>({ name: "idle" });
const overview = signal<OverviewState>({ name: "unknown" });
const board = signal<Board | null>(null);
const curve = signal<Curve | null>(null);

let showTimer: ReturnType<typeof setTimeout> | null = null;

const volunteer = createVolunteer({
  token: new URLSearchParams(location.hash.slice(1)).get("token"),
  force: parameters.get("backend"),
  onChange: () => {
    // What somebody waits for is shown at once, the figures a few times a second.
    const next = volunteer.state();
    if (next.name !== volunteering.value.name || phaseOf(next) !== phaseOf(volunteering.value)) show();
    else showTimer ??= setTimeout(show, SHOW_MS);
  },
  onData: rememberData,
});

function show(): void {
  if (showTimer !== null) clearTimeout(showTimer);
  showTimer = null;
  volunteering.value = volunteer.state();
}

const guest = () => ({ preferences: preferences.value, paused: paused.value, ...situation.value });

function onAction(action: Action): void {
  if (action === "stop") {
    volunteer.stop("stopped by the volunteer");
    return;
  }
  paused.value = false;
  const takeOver = action === "takeOver";
  void volunteer.join({ name: preferences.value.name, guest: guest(), record: recallData(), takeOver });
}

watchSituation({
  onChange: (next) => (situation.value = next),
  onNetwork: (reason) => volunteer.network(reason),
});
watchOverview({
  everyMs: OVERVIEW_MS,
  wanted: () => volunteer.state().name !== "joined",
  onChange: (next) => (overview.value = next),
});
watchBoard({ everyMs: BOARD_MS, onChange: (next) => (board.value = next) });

const awakeness = createAwakeness();
effect(() => volunteer.guest(guest()));
effect(() => awakeness.want(preferences.value.stayAwake && phaseOf(volunteering.value) === "working"));
effect(() => rememberPreferences(preferences.value));
effect(() => {
  const heard = newest(volunteering.value, overview.value);
  const known = curve.peek();
  if (heard === null || known === null) return;
  curve.value = extendCurve(known, heard);
  if (curve.peek()!.version.length > MAX_POINTS) void loadCurve();
});
void loadCurve();

async function loadCurve(): Promise<void> {
  const past = (await readCurve()) ?? emptyCurve;
  const heard = newest(volunteering.peek(), overview.peek());
  curve.value = heard === null ? past : extendCurve(past, heard);
}

function newest(state: VolunteerState, seen: OverviewState): Parameters<typeof extendCurve>[1] | null {
  const progress = state.name === "joined" ? (state.session?.progress ?? null) : null;
  return progress ?? (seen.name === "known" ? seen : null);
}

function places(): readonly Place[] {
  if (board.value === null) return [];
  const state = volunteering.value;
  const session = state.name === "joined" || state.name === "over" ? state.session : null;
  const worker = (session?.identity ?? recallIdentity())?.worker ?? null;
  return placesOf(board.value, { worker, name: preferences.value.name }, session?.progress ?? null);
}

function phaseOf(state: VolunteerState): string {
  return state.name === "joined" ? (state.session?.phase.name ?? "connecting") : state.name;
}

/** What the address says goes before what was kept. */
function withParameters(recalled: Preferences): Preferences {
  const name = parameters.get("name");
  return name === null ? recalled : { ...recalled, name: name.slice(0, MAX_NAME_LENGTH) };
}

function Page() {
  const view = describe({
    state: volunteering.value,
    overview: overview.value,
    preferences: preferences.value,
    paused: paused.value,
    nowMs: performance.now(),
  });
  document.body.dataset["tone"] = view.tone;
  document.title = view.tone === "idle" ? "manyhands" : `${view.headline} · manyhands`;
  return (
    <App
      view={view}
      preferences={preferences.value}
      curve={curve.value}
      board={places()}
      pluggedIn={situation.value.pluggedIn}
      canStayAwake={canStayAwake()}
      onAction={onAction}
      onPause={(next) => (paused.value = next)}
      onKernels={volunteer.timeKernels}
      onPreferences={(change) => (preferences.value = { ...preferences.value, ...change })}
    />
  );
}

showPage(<Page />);
if (parameters.has("join")) onAction("join");
