/** @file Puts a {@link View} on the page. Touches only what changed, so that screen readers are not told the same twice. */
import type { View } from "./words.ts";

export function createView({ onButton }: { readonly onButton: () => void }): { readonly show: (view: View) => void } {
  const button = element("button");
  button.addEventListener("click", onButton);
  return {
    show: ({ tone, headline, detail, button: { label, stops }, run, mine }) => {
      setData(document.body, "tone", tone);
      text("headline", headline);
      text("detail", detail);
      text("button", label);
      setData(button, "stops", String(stops));
      document.title = tone === "idle" ? "manyhands" : `${headline} · manyhands`;

      text("run-name", run.name);
      text("run-about", run.about);
      text("steps", run.steps);
      const bar = element("bar") as HTMLProgressElement;
      // Without a value the bar is "indeterminate".
      if (run.done === null) bar.removeAttribute("value");
      else bar.value = run.done;
      text("train-loss", run.trainLoss);
      text("validation-loss", run.validationLoss);
      text("loss-hint", run.lossHint);
      text("run-speed", run.speed);
      text("workers", run.workers);
      text("reason", run.reason);
      element("reason-line").hidden = run.reason === "";

      element("mine").hidden = mine === null;
      if (mine !== null) showMine(mine);
    },
  };
}

type Mine = NonNullable<View["mine"]>;

function showMine(mine: Mine): void {
  text("backend", mine.backend);
  text("device", mine.device);
  text("my-speed", mine.speed);
  text("my-tokens", mine.tokens);
  text("my-share", mine.share);
  text("my-units", mine.units);
  showFallbacks(mine.fallbacks);
}

function showFallbacks(fallbacks: Mine["fallbacks"]): void {
  const list = element("fallbacks");
  const key = JSON.stringify(fallbacks);
  if (list.dataset["key"] === key) return;
  list.dataset["key"] = key;
  list.hidden = fallbacks.length === 0;
  list.replaceChildren(
    ...fallbacks.map(({ backend, reason }) => {
      const item = document.createElement("li");
      const name = document.createElement("strong");
      name.textContent = `${backend} is not used: `;
      item.append(name, reason);
      return item;
    }),
  );
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element "${id}"`);
  return found;
}

function text(id: string, value: string): void {
  const target = element(id);
  if (target.textContent !== value) target.textContent = value;
}

function setData(target: HTMLElement, name: string, value: string): void {
  if (target.dataset[name] !== value) target.dataset[name] = value;
}
