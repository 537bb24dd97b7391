/** @file Numbers of things, as people read them. */

/** A whole number with a comma before each three digits: 1,234,567. (toLocaleString loads the tables of all languages: 8 MB.) */
export function count(value: number): string {
  return String(Math.round(value)).replaceAll(/\B(?=(\d{3})+$)/g, ",");
}
