/** @file A picture of a page beside the one that docs/img keeps. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

/**
 * Part of the pixels that look different, 0 … 1, as people see colours. Text is set by the machine's own fonts: that is below
 * {@link LOOKS_THE_SAME}; a moved or missing element is above.
 *
 * @throws Error when they differ in size.
 */
export function difference(name: string, png: Buffer): number {
  const found = PNG.sync.read(png);
  const kept = PNG.sync.read(readFileSync(join(import.meta.dirname, "../../docs/img", `${name}.png`)));
  const { width, height } = kept;
  if (found.width !== width || found.height !== height) {
    throw new Error(`${name}.png is ${width} × ${height}, the page ${found.width} × ${found.height}; npm run screenshots makes it anew`); // prettier-ignore
  }
  return pixelmatch(found.data, kept.data, undefined, width, height, { threshold: 0.15 }) / (width * height);
}

export const LOOKS_THE_SAME = 0.02;
