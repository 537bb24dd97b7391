/** @file Writing: prompt, templates and settings; the text as it comes, each token with what else was thought of. */
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { percent } from "../pages/format.ts";
import { lookAt } from "./attention.tsx";
import type { WrittenToken } from "./messages.ts";
import type { Playground } from "./state.ts";
import { EXAMPLE, templates } from "./templates.ts";
import { visible } from "./token.ts";
import { words } from "./words.ts";

/** A page with more of them would scroll, not show. */
const MAX_TOKENS = 400;

const INITIAL = { temperature: "0.8", topK: "40", topP: "0.95", seed: "1", tokens: "80" };

type Settings = typeof INITIAL;

const prompt = signal(EXAMPLE);
const written = signal<readonly WrittenToken[]>([]);
const pointed = signal<number | null>(null);
const problem = signal<string | null>(null);
const cancel = signal<(() => void) | null>(null);

export function Write({ playground }: { readonly playground: Playground }): VNode {
  const text = words().write;
  // As typed: a number put back at each key would make "0." into "0".
  const [settings, setSettings] = useState(INITIAL);
  const isWriting = cancel.value !== null;

  const number = (name: keyof Settings, label: string, min: number, max: number, step: number): VNode => (
    <label>
      {label}
      <input
        type="number"
        name={name}
        min={min}
        max={max}
        step={step}
        required
        value={settings[name]}
        onInput={({ currentTarget }) => setSettings({ ...settings, [name]: currentTarget.value })}
      />
    </label>
  );

  return (
    <section class="card" aria-labelledby="write">
      <h2 id="write">{text.title}</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void write(playground, settings);
        }}
      >
        <label class="prompt">
          {text.prompt}
          <textarea
            rows={4}
            value={prompt.value}
            onInput={({ currentTarget }) => (prompt.value = currentTarget.value)}
          />
        </label>
        <div class="templates" role="group" aria-label={text.templates}>
          {(["zero", "one", "few"] as const).map((name) => (
            <button type="button" onClick={() => (prompt.value = templates[name])}>
              {text[name]}
            </button>
          ))}
          <span class="soft">{text.templateHint}</span>
        </div>
        <div class="settings">
          {number("temperature", text.temperature, 0, 10, 0.05)}
          {number("topK", text.topK, 1, 65_535, 1)}
          {number("topP", text.topP, 0.01, 1, 0.01)}
          {number("seed", text.seed, 0, 4_294_967_295, 1)}
          {number("tokens", text.tokens, 1, MAX_TOKENS, 1)}
          <button
            type="button"
            onClick={() => setSettings({ ...settings, seed: String(crypto.getRandomValues(new Uint16Array(1))[0]) })}
          >
            {text.anySeed}
          </button>
          {isWriting ? (
            <button type="button" class="primary" onClick={() => cancel.value?.()}>
              {text.stop}
            </button>
          ) : (
            <button type="submit" class="primary" disabled={playground.find(playground.chosen.value) === null}>
              {text.go}
            </button>
          )}
        </div>
      </form>
      <p role="status" class="bad">
        {problem.value ?? ""}
      </p>
      {written.value.length === 0 ? null : <Output start={playground.text.value.slice(0, promptLength.value)} />}
    </section>
  );
}

const promptLength = signal(0);

async function write(playground: Playground, settings: Settings): Promise<void> {
  const version = playground.find(playground.chosen.value);
  const client = playground.client.value;
  if (version === null || client === null) return;
  const start = prompt.value;
  written.value = [];
  pointed.value = null;
  problem.value = null;
  promptLength.value = start.length;
  playground.text.value = start;
  const numbers = {
    temperature: Number(settings.temperature),
    topK: Number(settings.topK),
    topP: Number(settings.topP),
    seed: Number(settings.seed),
    tokens: Number(settings.tokens),
  };
  const task = client.run(version, { type: "generate", prompt: start, ...numbers }, (answer) => {
    if (answer.type !== "token") return;
    written.value = [...written.value, answer.token];
    playground.text.value += answer.token.piece;
  });
  cancel.value = task.cancel;
  problem.value = await task.done;
  cancel.value = null;
  if (problem.value === null && written.value.length > 0) lookAt(playground, playground.text.value);
}

function Output({ start }: { readonly start: string }): VNode {
  const text = words().write;
  const tokens = written.value;
  const shown = pointed.value;
  const token = shown === null ? undefined : tokens[shown];
  return (
    <div class="output">
      <h3>{text.output}</h3>
      <p class="soft">{text.hint}</p>
      <div class="text" lang="en">
        <span class="start">{start}</span>
        {tokens.map(({ label, piece, probability }, index) => (
          <button
            type="button"
            class="token"
            key={index}
            aria-label={text.tokenLabel(visible(label), probability)}
            aria-pressed={shown === index}
            tabIndex={index === (shown ?? 0) ? 0 : -1}
            style={{ "--surprise": (1 - probability).toFixed(2) }}
            onPointerEnter={() => (pointed.value = index)}
            onFocus={() => (pointed.value = index)}
            onClick={() => (pointed.value = index)}
            onKeyDown={(event) => {
              const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
              if (step === undefined) return;
              event.preventDefault();
              const all = event.currentTarget.parentElement?.querySelectorAll<HTMLElement>(".token");
              all?.[(index + step + tokens.length) % tokens.length]?.focus();
            }}
          >
            {piece === "" ? "·" : piece}
          </button>
        ))}
      </div>
      {token === undefined ? null : (
        <div class="alternatives">
          <h3>{text.alternatives(visible(token.label))}</h3>
          <table>
            <thead>
              <tr>
                <th scope="col">{text.token}</th>
                <th scope="col" colSpan={2}>
                  {text.probability}
                </th>
              </tr>
            </thead>
            <tbody>
              {token.alternatives.map(({ label, probability }) => (
                <tr class={label === token.label ? "chosen" : ""}>
                  <td>
                    <code>{visible(label)}</code>
                  </td>
                  <td class="number">{percent(probability)}</td>
                  <td class="bar">
                    <span style={{ width: `${100 * probability}%` }} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}
