/** @file The page: a {@link View} and the volunteer's preferences, as elements. Every word comes from the language's table. */
import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { count, exact, fixed, percent } from "../pages/format.ts";
import { Header } from "../pages/header.tsx";
import type { Place } from "./board.ts";
import type { ChartProps } from "./chart.tsx";
import type { Curve } from "./curve.ts";
import { INTENSITIES, MAX_NAME_LENGTH } from "./preferences.ts";
import type { Preferences } from "./preferences.ts";
import { say } from "./say.ts";
import type { Action, KernelLine, View } from "./words.ts";

export type AppProps = {
  readonly view: View;
  readonly preferences: Preferences;
  /** Null until the coordinator was asked. */
  readonly curve: Curve | null;
  /** Empty before the first step, and until the coordinator was asked. */
  readonly board: readonly Place[];
  /** Null where the browser does not tell. */
  readonly pluggedIn: boolean | null;
  readonly canStayAwake: boolean;
  readonly onAction: (action: Action) => void;
  readonly onPause: (paused: boolean) => void;
  /** Asked what a step is made of. */
  readonly onKernels: () => void;
  readonly onPreferences: (change: Partial<Preferences>) => void;
};

export function App(props: AppProps): JSX.Element {
  const { view } = props;
  return (
    <div class="page">
      <Header here="volunteer" />
      <main>
        <Hero {...props} />
        {view.mine !== null && <Mine mine={view.mine} onKernels={props.onKernels} />}
        <Run {...props} />
        {props.board.length > 0 && <Board places={props.board} />}
        <Rules {...props} />
        <Privacy />
      </main>
    </div>
  );
}

function Hero({ view, onAction, onPause }: AppProps): JSX.Element {
  const { button, pause } = view;
  return (
    <section class="card hero" aria-labelledby="title">
      <h1 id="title">{say("title")}</h1>
      <p class="lead">{say("lead")}</p>
      <p class="about" id="about">
        {view.run.about}
      </p>
      <div class="actions">
        <button
          id="button"
          type="button"
          class={button.action === "stop" ? "quiet" : "main"}
          onClick={() => onAction(button.action)}
        >
          {button.label}
        </button>
        {pause !== null && (
          <button
            id="pause"
            type="button"
            class={pause.isPaused ? "main" : "quiet"}
            onClick={() => onPause(!pause.isPaused)}
          >
            {pause.label}
          </button>
        )}
      </div>
      <div class="status">
        <p class="headline">
          <span class="dot" aria-hidden="true" />
          {/* Only what changes seldom is announced: figures that move every second are for the eye. */}
          <span id="headline" role="status">
            {view.headline}
          </span>
        </p>
        <p id="detail" class="detail">
          {view.detail}
        </p>
        <p id="reason" class="detail" lang="en">
          {view.reason}
        </p>
      </div>
    </section>
  );
}

function Mine({ mine, onKernels }: { mine: NonNullable<View["mine"]>; onKernels: () => void }): JSX.Element {
  return (
    <section id="mine" aria-labelledby="mine-title">
      <h2 id="mine-title">{say("mine")}</h2>
      <dl class="tiles">
        <Tile id="backend" name={say("computedBy")} value={mine.backend} note={mine.device} noteId="device" />
        <Tile id="my-speed" name={say("mySpeed")} value={mine.speed} note={mine.busy} noteId="busy" />
        <Tile id="my-tokens" name={say("myTokens")} value={mine.tokens} note={mine.share} noteId="my-share" />
        <Tile id="my-steps" name={say("mySteps")} value={mine.steps} note={say("myStepsHint")} />
        <Tile id="my-rank" name={say("myRank")} value={mine.rank} note={mine.rankOf} />
      </dl>
      {mine.notes.length > 0 && (
        <ul id="notes" class="notes">
          {mine.notes.map(({ what, reason }) => (
            <li key={what}>
              <strong>{what}</strong> <span lang="en">{reason}</span>
            </li>
          ))}
        </ul>
      )}
      {mine.kernels !== null && (
        <details id="kernels" class="card" onToggle={({ currentTarget }) => currentTarget.open && onKernels()}>
          <summary>{say("kernels")}</summary>
          {mine.kernels.length === 0 ? <p class="note">{say("kernelsWait")}</p> : <Kernels lines={mine.kernels} />}
        </details>
      )}
    </section>
  );
}

function Kernels({ lines }: { lines: readonly KernelLine[] }): JSX.Element {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{say("kernel")}</th>
          <th scope="col" class="number">
            {say("kernelMs")}
          </th>
          <th scope="col" class="number">
            {say("boardShare")}
          </th>
          <th scope="col" class="number">
            GFLOP/s
          </th>
        </tr>
      </thead>
      <tbody>
        {lines.map(({ name, ms, share, speed }) => (
          <tr key={name}>
            <td>
              <code>{name}</code>
            </td>
            <td class="number">{ms}</td>
            <td class="number">{share}</td>
            <td class="number">{speed}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Run({ view, curve }: AppProps): JSX.Element {
  const { run } = view;
  return (
    <section aria-labelledby="run-title">
      <h2 id="run-title">
        {say("run")} <span id="run-name">{run.name}</span>
      </h2>
      <div class="card">
        <div class="progress">
          <progress id="bar" max={1} value={run.done ?? undefined} aria-labelledby="steps" />
          <p id="steps">{run.steps}</p>
        </div>
        <Curves curve={curve} />
        <p class="note">{run.lossHint}</p>
      </div>
      <dl class="tiles">
        <Tile id="train-loss" name={say("trainLoss")} value={run.trainLoss} />
        <Tile id="validation-loss" name={say("validationLoss")} value={run.validationLoss} />
        <Tile id="run-speed" name={say("runSpeed")} value={run.speed} />
        <Tile id="workers" name={say("hands")} value={run.workers} />
      </dl>
    </section>
  );
}

function Board({ places }: { places: readonly Place[] }): JSX.Element {
  return (
    <section id="board" aria-labelledby="board-title">
      <h2 id="board-title">{say("board")}</h2>
      <div class="card board">
        <table>
          <thead>
            <tr>
              <th scope="col" class="number">
                {say("boardRank")}
              </th>
              <th scope="col">{say("boardName")}</th>
              <th scope="col" class="number">
                {say("boardShare")}
              </th>
              <th scope="col" class="number">
                {say("boardSteps")}
              </th>
            </tr>
          </thead>
          <tbody>
            {places.map(({ rank, name, share, rounds, isMine }, index) => (
              <tr key={index} class={isMine ? "mine" : ""}>
                <td class="number">{exact(rank)}</td>
                <td>
                  {name === "" ? <span class="soft">{say("anonymous")}</span> : name}
                  {isMine && <strong> {say("boardYou")}</strong>}
                </td>
                <td class="number">{percent(share)}</td>
                <td class="number">{count(rounds)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** The chart, once there is a curve to draw and the code that draws it has arrived. */
function Curves({ curve }: { curve: Curve | null }): JSX.Element {
  const [Chart, setChart] = useState<ComponentType<ChartProps> | null>(null);
  const isWorthwhile = curve !== null && curve.version.length > 1;
  useEffect(() => {
    if (!isWorthwhile) return;
    void import("./chart.tsx").then((module) => setChart(() => module.Chart));
  }, [isWorthwhile]);
  if (curve === null || (isWorthwhile && Chart === null)) return <p class="chart empty">{say("curveLoading")}</p>;
  if (!isWorthwhile || Chart === null) return <p class="chart empty">{say("curveEmpty")}</p>;
  const label = say("curveLabel", {
    first: fixed(curve.loss[0] ?? null, 3),
    from: exact(curve.version[0] ?? 0),
    last: fixed(curve.loss.at(-1) ?? null, 3),
    to: exact(curve.version.at(-1) ?? 0),
  });
  const names = { step: say("curveStep"), train: say("trainLoss"), validation: say("validationLoss") };
  return <Chart curve={curve} label={label} names={names} />;
}

function Rules({ view, preferences, pluggedIn, canStayAwake, onPreferences }: AppProps): JSX.Element {
  return (
    <section aria-labelledby="rules-title">
      <h2 id="rules-title">{say("rules")}</h2>
      <p class="note">{say("rulesLead")}</p>
      <form class="card rules" onSubmit={(event) => event.preventDefault()}>
        <fieldset aria-describedby="intensity-hint">
          <legend>{say("intensity")}</legend>
          <div class="segments">
            {INTENSITIES.map((intensity) => (
              <label key={intensity}>
                <input
                  type="radio"
                  name="intensity"
                  value={intensity}
                  checked={preferences.intensity === intensity}
                  onChange={() => onPreferences({ intensity })}
                />
                <span>
                  {say(`intensity${100 * intensity}` as "intensity25")}{" "}
                  {/* Not percent(): the first format of a page takes long to make, and this is drawn first. */}
                  <small>{100 * intensity}%</small>
                </span>
              </label>
            ))}
          </div>
          <p class="note" id="intensity-hint">
            {say("intensityHint")}
          </p>
        </fieldset>
        <Switch
          id="plugged"
          label={say("plugged")}
          hint={pluggedIn === null ? say("pluggedUnknown") : ""}
          disabled={pluggedIn === null}
          checked={preferences.onlyPluggedIn}
          onChange={(onlyPluggedIn) => onPreferences({ onlyPluggedIn })}
        />
        <Switch
          id="awake"
          label={say("awake")}
          hint={canStayAwake ? "" : say("awakeUnknown")}
          disabled={!canStayAwake}
          checked={preferences.stayAwake}
          onChange={(stayAwake) => onPreferences({ stayAwake })}
        />
        <div class="field">
          <label for="limit">{say("dataLimit")}</label>
          <input
            id="limit"
            type="number"
            min={1}
            step={1}
            inputMode="numeric"
            // Not `value`: the page is drawn anew every second, which would take away what is being typed.
            defaultValue={preferences.megabytesPerHour ?? ""}
            aria-describedby="limit-hint"
            onChange={({ currentTarget: { valueAsNumber } }) =>
              onPreferences({ megabytesPerHour: valueAsNumber >= 1 ? valueAsNumber : null })
            }
          />
          <p class="note" id="limit-hint">
            {say("dataLimitHint")} <span id="data">{view.data}</span>
          </p>
        </div>
        <div class="field">
          <label for="name">{say("name")}</label>
          <input
            id="name"
            type="text"
            maxLength={MAX_NAME_LENGTH}
            autoComplete="nickname"
            defaultValue={preferences.name}
            aria-describedby="name-hint"
            onChange={({ currentTarget: { value } }) => onPreferences({ name: value.trim() })}
          />
          <p class="note" id="name-hint">
            {say("nameHint")}
          </p>
        </div>
      </form>
    </section>
  );
}

function Privacy(): JSX.Element {
  return (
    <section aria-labelledby="privacy-title">
      <h2 id="privacy-title">{say("privacy")}</h2>
      <div class="privacy">
        <div class="card">
          <h3>{say("leaves")}</h3>
          <ul>
            <li>{say("leavesNumbers")}</li>
            <li>{say("leavesTimings")}</li>
            <li>{say("leavesName")}</li>
          </ul>
        </div>
        <div class="card">
          <h3>{say("stays")}</h3>
          <ul>
            <li>{say("staysFiles")}</li>
            <li>{say("staysHardware")}</li>
            <li>{say("staysDisk")}</li>
          </ul>
        </div>
      </div>
    </section>
  );
}

type TileProps = {
  readonly id: string;
  readonly name: string;
  readonly value: string;
  readonly note?: string;
  readonly noteId?: string;
};

function Tile({ id, name, value, note = "", noteId }: TileProps): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd id={id}>{value}</dd>
      {note !== "" && (
        <dd class="note" id={noteId}>
          {note}
        </dd>
      )}
    </div>
  );
}

type SwitchProps = {
  readonly id: string;
  readonly label: string;
  readonly hint: string;
  readonly disabled: boolean;
  readonly checked: boolean;
  readonly onChange: (checked: boolean) => void;
};

function Switch({ id, label, hint, disabled, checked, onChange }: SwitchProps): JSX.Element {
  return (
    <div class="switch">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="checkbox"
        role="switch"
        disabled={disabled}
        checked={checked}
        aria-describedby={hint === "" ? undefined : `${id}-hint`}
        onChange={({ currentTarget }) => onChange(currentTarget.checked)}
      />
      {hint !== "" && (
        <p class="note" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}
