/** @file Numbers and times as people read them, in the page's language. */
import { language } from "./language.ts";

/** 12,345 up to a hundred thousand, then 1.23M. */
export function count(value: number): string {
  return value < 100_000 ? exact(value) : number({ notation: "compact", maximumFractionDigits: 2 }).format(value);
}

/** Where each one counts, as in steps: 1,234,567. */
export function exact(value: number): string {
  return number({ maximumFractionDigits: 0 }).format(value);
}

/** For a sentence: 815 thousand. */
export function about(value: number): string {
  return number({ notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 }).format(value);
}

export function fixed(value: number | null, digits: number): string {
  return value === null || !Number.isFinite(value) ? "–" : value.toFixed(digits);
}

/** 0.834 → 83%. A small part is worth its digits: 0.0123 → 1.2%. */
export function percent(part: number): string {
  const digits = part === 0 || part >= 0.1 ? 0 : part >= 0.001 ? 1 : 3;
  return number({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(part);
}

/** 3 significant digits, or powers of ten where zeros would have to be counted. */
export function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** kB, MB, GB of 10³, 10⁶, 10⁹ bytes. */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${number({ maximumSignificantDigits: 3 }).format(value / 1000 ** power)} ${units[power]}`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${short(ms)} ms`;
  if (ms < 60_000) return `${short(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

export function time(ms: number): string {
  return date({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms);
}

export function dateTime(ms: number): string {
  return date({ dateStyle: "medium", timeStyle: "short", hourCycle: "h23" }).format(ms);
}

/** To make one takes a millisecond or more, on a phone many, and pages are drawn anew every second. Few kinds: a bound of its own. */
const formats = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat>();

function number(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  return kept("number", options, () => new Intl.NumberFormat(language.value, options));
}

function date(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return kept("date", options, () => new Intl.DateTimeFormat(language.value, options));
}

function kept<Format extends Intl.NumberFormat | Intl.DateTimeFormat>(
  kind: string,
  options: object,
  make: () => Format,
): Format {
  const key = `${kind} ${language.value} ${JSON.stringify(options)}`;
  const known = formats.get(key) as Format | undefined;
  if (known !== undefined) return known;
  const made = make();
  formats.set(key, made);
  return made;
}
