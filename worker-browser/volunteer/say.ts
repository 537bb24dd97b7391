/** @file The words of the page in the visitor's language: from the tables in strings/, with their `{holes}` filled in. */
import { language, type Translated } from "../pages/language.ts";
import { en } from "./strings/en.ts";
import { zh } from "./strings/zh.ts";

export type Strings = { readonly [Key in keyof typeof en]: string };

export const strings: Translated<Strings> = { en, zh };

export function say(key: keyof Strings, values: Readonly<Record<string, string>> = {}): string {
  const text: string = strings[language.value][key];
  return text.replaceAll(/\{(\w+)\}/g, (hole, name: string) => values[name] ?? hole);
}
