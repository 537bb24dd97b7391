/** @file What stands above every page: the name, the way to the other pages, the language. */
import type { VNode } from "preact";
import { chooseLanguage, language, languages, type Language, type Translated } from "./language.ts";

type Place = "volunteer" | "dashboard" | "playground";

const words: Translated<Readonly<Record<Place | "pages" | "language", string>>> = {
  en: { volunteer: "Lend a hand", dashboard: "Dashboard", playground: "See the model", pages: "Pages", language: "Language" }, // prettier-ignore
  zh: { volunteer: "参与训练", dashboard: "控制台", playground: "看模型", pages: "页面", language: "语言" },
};

/** Relative, so that a reverse proxy may serve the pages below any path. */
const addresses: Readonly<Record<Place, string>> = {
  volunteer: "./",
  dashboard: "./dashboard",
  playground: "./playground",
};

const hands = [0, 60, 120, 180, 240, 300].map((angle) => ({
  x: 16 + 11.5 * Math.sin((angle * Math.PI) / 180),
  y: 16 - 11.5 * Math.cos((angle * Math.PI) / 180),
}));

export function Header({ here }: { readonly here: Place }): VNode {
  const text = words[language.value];
  return (
    <header class="top">
      <a class="brand" href={addresses.volunteer}>
        <svg viewBox="0 0 32 32" aria-hidden="true">
          {hands.map(({ x, y }) => (
            <line x1="16" y1="16" x2={x} y2={y} />
          ))}
          <circle cx="16" cy="16" r="4.5" />
          {hands.map(({ x, y }) => (
            <circle class="hand" cx={x} cy={y} r="3" />
          ))}
        </svg>
        manyhands
      </a>
      <nav aria-label={text.pages}>
        {(Object.keys(addresses) as Place[]).map((place) => (
          <a href={addresses[place]} aria-current={place === here ? "page" : undefined}>
            {text[place]}
          </a>
        ))}
      </nav>
      <select
        aria-label={text.language}
        value={language.value}
        onChange={(event) => chooseLanguage(event.currentTarget.value as Language)}
      >
        {Object.entries(languages).map(([tag, name]) => (
          <option value={tag} lang={tag}>
            {name}
          </option>
        ))}
      </select>
    </header>
  );
}
