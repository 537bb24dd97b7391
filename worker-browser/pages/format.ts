/** @file Numbers and times as people read them, in the page's language. */
import { language } from "./language.ts";

export function count(value: number): string {
  const notation = value < 100_000 ? "standard" : "compact";
  return new Intl.NumberFormat(language.value, { notation, maximumFractionDigits: notation === "compact" ? 2 : 0 }).format(value); // prettier-ignore
}

export function fixed(value: number | null, digits: number): string {
  return value === null || !Number.isFinite(value) ? "–" : value.toFixed(digits);
}

/** 0.834 → "83 %". */
export function percent(part: number): string {
  return `${Math.round(100 * part)} %`;
}

/** 3 significant digits, or powers of ten where zeros would have to be counted. */
export function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${Number((value / 1000 ** power).toPrecision(3))} ${units[power]}`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${short(ms)} ms`;
  if (ms < 60_000) return `${short(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

export function time(ms: number): string {
  return new Intl.DateTimeFormat(language.value, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms); // prettier-ignore
}

export function dateTime(ms: number): string {
  return new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" }).format(ms); // prettier-ignore
}
