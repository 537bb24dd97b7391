/** @file The language of a page: what the visitor chose, else what the browser asks for, else English. */
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

export const languages = { en: "English", zh: "中文" } as const;

export type Language = keyof typeof languages;

/** A page's words: the same keys in every language. */
export type Translated<Words> = Readonly<Record<Language, Words>>;

const KEY = "manyhands language";

export const language: Signal<Language> = signal(initialLanguage());

export function chooseLanguage(chosen: Language): void {
  language.value = chosen;
  document.documentElement.lang = chosen;
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // Storage that is switched off: the choice lasts as long as the page.
  }
}

function initialLanguage(): Language {
  const wanted = [remembered(), ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
  const known = wanted.find((tag) => Object.hasOwn(languages, tag)) as Language | undefined;
  document.documentElement.lang = known ?? "en";
  return known ?? "en";
}

function remembered(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}
