/**
 * @file The volunteer's page. Besides the button there are parameters in its address, for operators and tests:
 * `?join` joins at once · `?backend=webgpu|webgl|wasm|cpu` uses only that one · `?name=…` is shown to the operator ·
 * `?token=…` for a run that asks for one.
 */
import "./style.css";
import { watchOverview } from "./overview.ts";
import { createView } from "./view.ts";
import { createVolunteer } from "./volunteer.ts";
import { describe } from "./words.ts";

/** The run as seen from outside, while this tab takes no part in it. */
const OVERVIEW_MS = 3000;

const parameters = new URLSearchParams(location.search);

const volunteer = createVolunteer({
  settings: {
    name: (parameters.get("name") ?? "").slice(0, 64),
    token: parameters.get("token"),
    force: parameters.get("backend"),
  },
  onChange: render,
});

const view = createView({
  onButton: () => {
    if (volunteer.state().name === "joined") volunteer.stop("stopped by the volunteer");
    else void volunteer.join();
  },
});

const overview = watchOverview({ everyMs: OVERVIEW_MS, wanted: () => volunteer.state().name !== "joined", onChange: render }); // prettier-ignore

let painting = false;

/** At most once a frame, and not at all while hidden: the tab is somebody's, and its work is done in other threads. */
function render(): void {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    view.show(describe(volunteer.state(), overview.latest(), performance.now()));
  });
}

render();
if (parameters.has("join")) void volunteer.join();
