import { afterEach, expect, test } from "vitest";
import { about, bytes, count, exact, percent } from "../../../../worker-browser/pages/format.ts";
import { language, preferredLanguage } from "../../../../worker-browser/pages/language.ts";

afterEach(() => {
  language.value = "en";
});

test("the visitor's first language that there is, and English where there is none", () => {
  expect(preferredLanguage(["", "fr-CA", "zh-Hant-TW", "en"])).toBe("zh");
  expect(preferredLanguage(["EN-us"])).toBe("en");
  expect(preferredLanguage(["toString", "fr"])).toBe("en");
  expect(preferredLanguage([])).toBe("en");
});

test("numbers and sizes as the language writes them", () => {
  expect([12_345, 99_999, 1_234_567].map(count)).toEqual(["12,345", "99,999", "1.23M"]);
  expect([1_234_567, 0.4].map(exact)).toEqual(["1,234,567", "0"]);
  expect(about(926_848)).toBe("927 thousand");
  expect([0, 0.5, 0.0123, 0.00004].map(percent)).toEqual(["0%", "50%", "1.2%", "0.004%"]);
  expect([12, 1500, 2_345_678, 3.2e9].map(bytes)).toEqual(["12 B", "1.5 kB", "2.35 MB", "3.2 GB"]);
  language.value = "zh";
  expect(count(1_234_567)).toBe("123.46万");
});
