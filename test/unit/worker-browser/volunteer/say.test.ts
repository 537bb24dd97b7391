import { expect, test } from "vitest";
import { languages, type Language } from "../../../../worker-browser/pages/language.ts";
import { say, strings } from "../../../../worker-browser/volunteer/say.ts";

const codes = Object.keys(languages) as Language[];
const holes = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort((a, b) => a.localeCompare(b));

test("every language says everything, with the same holes to fill in", () => {
  const expected = Object.entries(strings.en).map(([key, text]) => [key, holes(text)]);
  for (const code of codes) {
    expect(
      Object.entries(strings[code]).map(([key, text]) => [key, holes(text)]),
      code,
    ).toEqual(expected);
    expect(
      Object.values(strings[code]).every((text) => text.trim() !== ""),
      code,
    ).toBe(true);
  }
});

test("no text was left in English", () => {
  const same = Object.entries(strings.zh).filter(([key, text]) => text === strings.en[key as keyof typeof strings.en]); // prettier-ignore
  expect(same.map(([key]) => key)).toEqual(["unknown"]);
});

test("holes are filled in", () => {
  expect(say("myShare", { share: "8%" })).toBe("8% of the run");
});
