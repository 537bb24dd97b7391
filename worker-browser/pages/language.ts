/** @file The language of a page: what its address or the visitor chose, else what the browser asks for, else English. */
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

export const languages = { en: "English", zh: "中文" } as const;

export type Language = keyof typeof languages;

/** A page's words: the same keys in every language. */
export type Translated<Words> = Readonly<Record<Language, Words>>;

const KEY = "manyhands language";

export const language: Signal<Language> = signal("en");

/** Where a page begins. `?language=zh` in its address counts as chosen: it holds on the other pages too. */
export function recallLanguage(): void {
  const asked = new URLSearchParams(location.search).get("language");
  const found = preferredLanguage([asked ?? "", remembered(), ...navigator.languages]);
  if (asked === null) language.value = found;
  else chooseLanguage(found);
}

export function chooseLanguage(chosen: Language): void {
  language.value = chosen;
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // Storage that is switched off: the choice lasts as long as the page.
  }
}

/** The first of these tags that there is; English otherwise. */
export function preferredLanguage(tags: readonly string[]): Language {
  const known = tags.map((tag) => tag.toLowerCase().split("-")[0] ?? "").find((tag) => Object.hasOwn(languages, tag));
  return (known as Language | undefined) ?? "en";
}

function remembered(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}
