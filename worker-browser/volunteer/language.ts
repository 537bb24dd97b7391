/** @file The page in the visitor's language: words, numbers, and the choice between the tables in strings/. */
import { en } from "./strings/en.ts";
import { zh } from "./strings/zh.ts";

export type Strings = { readonly [Key in keyof typeof en]: string };

export type LanguageCode = "en" | "zh";

export const languages: Readonly<Record<LanguageCode, Strings>> = { en, zh };

export type Language = {
  readonly code: LanguageCode;
  /** The text of a key with its `{holes}` filled in. */
  readonly say: (key: keyof Strings, values?: Readonly<Record<string, string>>) => string;
  /** 12,345 up to a hundred thousand, then 1.23M. */
  readonly count: (value: number) => string;
  /** As long words: 815 thousand. */
  readonly about: (value: number) => string;
  readonly exact: (value: number) => string;
  /** A small share is worth its digits: it is somebody's. */
  readonly percent: (share: number) => string;
  /** kB, MB, GB of 10³, 10⁶, 10⁹ bytes. */
  readonly bytes: (bytes: number) => string;
};

/** The first of the visitor's languages that there is; English otherwise. */
export function preferredLanguage(wanted: readonly string[]): LanguageCode {
  for (const tag of wanted) {
    const code = tag.toLowerCase().split("-")[0] ?? "";
    if (code in languages) return code as LanguageCode;
  }
  return "en";
}

export function createLanguage(code: LanguageCode): Language {
  const strings: Strings = languages[code];
  const exact = new Intl.NumberFormat(code, { maximumFractionDigits: 0 });
  const compact = new Intl.NumberFormat(code, { notation: "compact", maximumFractionDigits: 2 });
  const long = new Intl.NumberFormat(code, {
    notation: "compact",
    compactDisplay: "long",
    maximumSignificantDigits: 3,
  });
  const size = (value: number, unit: string): string =>
    `${new Intl.NumberFormat(code, { maximumSignificantDigits: 3 }).format(value)} ${unit}`;
  return {
    code,
    say: (key, values = {}) => strings[key].replaceAll(/\{(\w+)\}/g, (hole, name: string) => values[name] ?? hole),
    count: (value) => (value < 100_000 ? exact.format(value) : compact.format(value)),
    about: (value) => long.format(value),
    exact: (value) => exact.format(value),
    percent: (share) => {
      const digits = share === 0 || share >= 0.1 ? 0 : share >= 0.001 ? 1 : 3;
      return new Intl.NumberFormat(code, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(share); // prettier-ignore
    },
    bytes: (bytes) => {
      if (bytes < 1e6) return size(bytes / 1e3, "kB");
      return bytes < 1e9 ? size(bytes / 1e6, "MB") : size(bytes / 1e9, "GB");
    },
  };
}
