import { expect, test } from "vitest";
import { parseRange } from "../../../coordinator/edge/files.ts";

test.each([
  ["bytes=0-9", { start: 0, end: 10 }],
  ["bytes=90-", { start: 90, end: 100 }],
  ["bytes=-7", { start: 93, end: 100 }],
  ["bytes=-700", { start: 0, end: 100 }],
  ["bytes=50-5000", { start: 50, end: 100 }],
  ["bytes=100-", "unsatisfiable"],
  ["bytes=-0", "unsatisfiable"],
  ["bytes=9-5", null],
  ["bytes=-", null],
  ["bytes=1-2,5-6", null],
  ["lines=1-2", null],
  ["bytes=1e3-2", null],
  [undefined, null],
])("Range %s of 100 bytes", (header, expected) => {
  expect(parseRange(header, 100)).toEqual(expected);
});
