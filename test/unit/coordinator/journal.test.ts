import { expect, test } from "vitest";
import { RECORD_HEADER_BYTES, decodeRecordHeader, encodeRecordHeader } from "../../../coordinator/store/journal.ts";

const header = {
  version: 12_345_678_901,
  step: 77,
  tokens: 768,
  learningRate: 0.1 + 0.2,
  length: 811_008,
  gradientHash: "00ab12340000ffff",
  baseHash: "fedcba9876543210",
};

test("a header comes back with every bit", () => {
  const bytes = encodeRecordHeader(header);
  expect(bytes.length).toBe(RECORD_HEADER_BYTES);
  expect(decodeRecordHeader(bytes)).toEqual(header);
  // As a part of a file in memory.
  const file = Buffer.concat([Buffer.alloc(40), bytes]);
  expect(decodeRecordHeader(file.subarray(40))).toEqual(header);
});

test("a header with any byte of its fields or checksum changed is none", () => {
  for (let position = 0; position < 72; position++) {
    const bytes = encodeRecordHeader(header);
    bytes[position]! ^= 0x10;
    expect(decodeRecordHeader(bytes)).toBeNull();
  }
  expect(decodeRecordHeader(new Uint8Array(RECORD_HEADER_BYTES))).toBeNull();
  expect(decodeRecordHeader(new Uint8Array(10))).toBeNull();
});
