import { expect, test } from "vitest";
import { createLanguage, languages, preferredLanguage } from "../../../../worker-browser/volunteer/language.ts";
import type { LanguageCode } from "../../../../worker-browser/volunteer/language.ts";

const codes = Object.keys(languages) as LanguageCode[];
const holes = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort((a, b) => a.localeCompare(b));

test("every language says everything, with the same holes to fill in", () => {
  const expected = Object.entries(languages.en).map(([key, text]) => [key, holes(text)]);
  for (const code of codes) {
    expect(
      Object.entries(languages[code]).map(([key, text]) => [key, holes(text)]),
      code,
    ).toEqual(expected);
    expect(
      Object.values(languages[code]).every((text) => text.trim() !== ""),
      code,
    ).toBe(true);
  }
});

test("no text was left in English", () => {
  const same = Object.entries(languages.zh).filter(([key, text]) => text === languages.en[key as keyof typeof languages.en]); // prettier-ignore
  expect(same.map(([key]) => key)).toEqual(["unknown"]);
});

test("the visitor's first language that there is, and English where there is none", () => {
  expect(preferredLanguage(["fr-CA", "zh-Hant-TW", "en"])).toBe("zh");
  expect(preferredLanguage(["EN-us"])).toBe("en");
  expect(preferredLanguage(["toString", "fr"])).toBe("en");
  expect(preferredLanguage([])).toBe("en");
});

test("numbers and sizes as the language writes them", () => {
  const [en, zh] = [createLanguage("en"), createLanguage("zh")];
  expect([12_345, 99_999, 1_234_567].map(en.count)).toEqual(["12,345", "99,999", "1.23M"]);
  expect(zh.count(1_234_567)).toBe("123.46万");
  expect([0, 0.5, 0.0123, 0.00004].map(en.percent)).toEqual(["0%", "50%", "1.2%", "0.004%"]);
  expect([1500, 2_345_678, 3.2e9].map(en.bytes)).toEqual(["1.5 kB", "2.35 MB", "3.2 GB"]);
  expect(en.say("myShare", { share: "8 %" })).toBe("8 % of the run");
});
