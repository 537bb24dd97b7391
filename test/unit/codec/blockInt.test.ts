import { expect, test } from "vitest";
import { blockExponent, i4, i8, type BlockFormat } from "../../../shared/codec/blockInt.ts";
import { checkPayload, decodeApply, encode, encoded, encodedBytes } from "../../../shared/codec/codec.ts";

const bitsOf = (x: number) => new Int32Array(new Float32Array([x]).buffer)[0]! & 0x7fffffff;

function block(values: readonly number[], length = 256): Float32Array {
  const out = new Float32Array(length);
  out.set(values);
  return out;
}

test("the byte layout: exponents, then quants; nibbles low first", () => {
  // a = 127·2^-3 exactly, so e = −3 and the others are multiples of 1/8.
  const bytes = encoded("i8", block([15.875, -0.125, 1, 0]));
  expect(bytes.length).toBe(257);
  expect([...new Int8Array(bytes.buffer).slice(0, 5)]).toEqual([-3, 127, -1, 8, 0]);

  const nibbles = new Int8Array(encoded("i4", block([3.5, -0.5, 1, -3.5])).buffer);
  expect(nibbles.length).toBe(4 + 128);
  expect(Array.from(nibbles.slice(0, 4))).toEqual([-1, -128, -128, -128]);
  expect([...new Uint8Array(nibbles.buffer).slice(4, 6)]).toEqual([0xf7, 0x92]);
});

test("ties go to even, on both sides of zero", () => {
  const bytes = encoded("i8", block([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]));
  expect([...new Int8Array(bytes.buffer).slice(0, 9)]).toEqual([0, 127, 0, 2, 2, 0, -2, -2, 126]);
});

test("the exponent steps up just above M·2^e, at every scale", () => {
  for (const format of [i8, i4]) {
    for (const e of [-99, -40, -1, 0, 7, 99]) {
      const edge = format.max * 2 ** e;
      expect(blockExponent(format, bitsOf(edge))).toBe(e);
      expect(blockExponent(format, bitsOf(edge) + 1)).toBe(e + 1);
      expect(blockExponent(format, bitsOf(edge) - 1)).toBe(e);
    }
  }
});

test("the exponent is clamped, and huge values with it", () => {
  expect(blockExponent(i8, bitsOf(2 ** -140))).toBe(-100);
  expect(blockExponent(i8, bitsOf(3.4e38))).toBe(100);
  for (const [codec, max] of [
    ["i8", 127],
    ["i4", 7],
  ] as const) {
    // prettier-ignore
    const bytes = encoded(codec, block([3.4e38, -3.4e38, 2 ** 100, 1]));
    const decoded = new Float32Array(256);
    decodeApply(codec, bytes, decoded);
    expect(Array.from(decoded.slice(0, 4))).toEqual([max * 2 ** 100, -max * 2 ** 100, 2 ** 100, 0]);
  }
});

test("a block of zeros has exponent −128, whatever was in the buffer before", () => {
  for (const codec of ["i8", "i4"] as const) {
    const out = new Uint8Array(encodedBytes(codec, 256)).fill(0x55);
    encode(codec, new Float32Array(256), out);
    const exponents = codec === "i8" ? 1 : 4;
    expect([...new Int8Array(out.buffer).slice(0, exponents)]).toEqual(Array(exponents).fill(-128));
    expect(out.slice(exponents).every((byte) => byte === 0)).toBe(true);
  }
});

test("NaN and infinity cannot be encoded", () => {
  for (const codec of ["i8", "i4"] as const) {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const values = new Float32Array(512);
      values[300] = bad;
      expect(() => encoded(codec, values)).toThrow("non-finite value among elements");
    }
  }
});

test("every byte of hostile quants and exponents that an encoder cannot make is refused", () => {
  const cases: ["i8" | "i4", BlockFormat][] = [["i8", i8], ["i4", i4]]; // prettier-ignore
  for (const [codec, format] of cases) {
    const good = encoded(codec, block([1, 2, 3], 512));
    const exponents = 512 / format.block;
    expect(checkPayload(codec, good, 512).problem).toBeUndefined();
    for (const exponent of [101, 127, -101, -127]) {
      const bad = good.slice();
      bad[exponents - 1] = exponent;
      expect(checkPayload(codec, bad, 512).problem).toBe("exponent");
    }
    const hidden = good.slice();
    hidden[0] = -128;
    expect(checkPayload(codec, hidden, 512).problem).toBe("exponent");
    for (const position of [exponents, exponents + 1, exponents + 2, exponents + 3, good.length - 1]) {
      const bad = good.slice();
      bad[position] = codec === "i8" ? 0x80 : position % 2 === 0 ? 0x83 : 0x38;
      expect(checkPayload(codec, bad, 512).problem).toBe("quant");
    }
    expect(checkPayload(codec, good.subarray(1), 512).problem).toBe("length");
    expect(checkPayload(codec, new Uint8Array(0), 512).problem).toBe("length");
  }
});

test("f32 with NaN or infinity is refused, also at an unaligned address", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    const values = new Float32Array(256).fill(1);
    values[255] = bad;
    const shifted = new Uint8Array(1025);
    shifted.set(encoded("f32", values), 1);
    expect(checkPayload("f32", shifted.subarray(1), 256).problem).toBe("nonFinite");
  }
});

test("lengths that are not whole blocks are refused", () => {
  expect(() => encodedBytes("i8", 100)).toThrow("100 elements, expected a multiple of 256");
  expect(() => encode("i8", new Float32Array(256), new Uint8Array(256))).toThrow("256 elements need 257");
  expect(() => decodeApply("f32", new Uint8Array(1020), new Float32Array(256))).toThrow("1020 bytes for 256 elements");
});
