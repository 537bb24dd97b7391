import { expect, test } from "vitest";
import { readBin, writeBin } from "../../../shared/data/bin.ts";

const tokens = Uint16Array.of(0, 1, 256, 50256, 65535, 7);

test("both formats come back as they were written", () => {
  for (const format of ["nanogpt", "llm.c"] as const)
    expect(readBin(writeBin(tokens, format))).toEqual({ format, tokens });
});

test("nanoGPT's file is the ids, low byte first, as numpy's uint16.tofile", () => {
  expect(Array.from(writeBin(Uint16Array.of(1, 258), "nanogpt"))).toEqual([1, 0, 2, 1]);
});

test("llm.c's file is a header of 256 int32 — magic 20240520, version 1, count — and then the ids", () => {
  const bytes = writeBin(tokens, "llm.c");
  const header = new Int32Array(bytes.slice(0, 1024).buffer);
  expect(Array.from(header.subarray(0, 4))).toEqual([20240520, 1, 6, 0]);
  expect(bytes.length).toBe(1024 + 12);
  expect(Array.from(bytes.subarray(1024, 1030))).toEqual([0, 0, 1, 0, 0, 1]);
});

test("a file that is cut short, of another version or with wider ids is refused", () => {
  const bytes = writeBin(tokens, "llm.c");
  expect(() => readBin(bytes.subarray(0, 1030))).toThrow("an llm.c file of 6 tokens has 1036 bytes, not 1030");
  expect(() => readBin(new Uint8Array(3))).toThrow("3 bytes, not a whole number");
  const version2 = bytes.slice();
  version2[4] = 2;
  expect(() => readBin(version2)).toThrow("version 2, not 1");
  const wide = new Uint8Array(new Int32Array(256).fill(20240801, 0, 1).buffer);
  expect(() => readBin(wide)).toThrow("uint32");
});
