import { expect, test } from "vitest";
import { readParams, writeParams } from "../../../shared/codec/paramsFile.ts";
import { readSafetensors, writeSafetensors } from "../../../shared/codec/safetensors.ts";
import { layoutOf } from "../../../shared/numerics/layout.ts";

const layout = layoutOf([
  { name: "wte", shape: [3, 5] },
  { name: "ln.weight", shape: [7] },
]);

function params(): Float32Array {
  const values = new Float32Array(layout.length);
  for (const { offset, size } of layout.slots) for (let i = 0; i < size; i++) values[offset + i] = offset + i / 8 - 1;
  return values;
}

test("parameters written and read again are the same bits, padding included, and so is the metadata", () => {
  const file = writeParams(layout, params(), { version: "12", run: "ünïcode" });
  const back = new Float32Array(layout.length).fill(NaN);
  expect(readParams(file, layout, back)).toEqual({ version: "12", run: "ünïcode" });
  expect(back).toEqual(params());
});

test("a file at an odd address is read as well", () => {
  const file = writeParams(layout, params());
  const shifted = new Uint8Array(file.length + 3);
  shifted.set(file, 3);
  const back = new Float32Array(layout.length);
  readParams(shifted.subarray(3), layout, back);
  expect(back).toEqual(params());
});

test("the bytes are the format's: length, JSON padded to 8, data in order", () => {
  const file = writeSafetensors([{ name: "a", shape: [2], values: new Float32Array([1, -2]) }], { k: "v" });
  const headerBytes = Number(new DataView(file.buffer).getBigUint64(0, true));
  expect(headerBytes % 8).toBe(0);
  expect(JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)))).toEqual({
    __metadata__: { k: "v" },
    a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
  });
  expect([...file.subarray(8 + headerBytes)]).toEqual([0, 0, 128, 63, 0, 0, 0, 192]);
});

test("another model's file is refused by name and shape, and nothing is overwritten", () => {
  const file = writeParams(layout, params());
  for (const [tensors, message] of [
    [
      [
        { name: "wte", shape: [5, 3] },
        { name: "ln.weight", shape: [7] },
      ],
      'tensor "wte" is [3, 5] in the file, [5, 3]',
    ],
    [
      [
        { name: "wte", shape: [3, 5] },
        { name: "ln.bias", shape: [7] },
      ],
      'no tensor "ln.bias"',
    ],
    [[{ name: "wte", shape: [3, 5] }], 'a tensor "ln.weight" that this model has not'],
  ] as const) {
    // prettier-ignore
    const other = layoutOf(tensors);
    const target = new Float32Array(other.length).fill(9);
    expect(() => readParams(file, other, target)).toThrow(message);
    expect(target.every((value) => value === 9)).toBe(true);
  }
});

/** A file with this header (any JSON value or text) and this many data bytes. */
function forged(header: unknown, dataBytes: number, headerBytes?: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes ?? json.length), true);
  file.set(json, 8);
  return file;
}

const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

test("forged files are refused with what is wrong", () => {
  for (const [file, message] of [
    [new Uint8Array(7), "file of 7 bytes"],
    [forged({}, 0, 2 ** 40), "header of 1099511627776 bytes"],
    [forged({}, 4, 100), "header of 100 bytes in a file of 14"],
    [forged("{", 0), "not JSON"],
    [forged("[]", 0), "not a JSON object"],
    [forged("null", 0), "not a JSON object"],
    [forged({ a: 1 }, 0), 'tensor "a" is not described'],
    [forged({ a: { ...f32(0, 4), dtype: "constructor" } }, 4), 'dtype "constructor"'],
    [forged({ a: { ...f32(0, 4), dtype: undefined } }, 4), "dtype undefined"],
    [forged({ a: f32(0, 4, [-1]) }, 4), 'shape of tensor "a"'],
    [forged({ a: f32(0, 4, [0.5]) }, 4), 'shape of tensor "a"'],
    [forged({ a: f32(0, 4, [1, 1, 1, 1, 1, 1, 1, 1, 1]) }, 4), "at most 8"],
    [forged({ a: f32(0, 4, [2]) }, 4), "needs 8 bytes, has 0 to 4"],
    [forged({ a: f32(0, 4, [2 ** 30, 2 ** 30]) }, 4), "needs"],
    [forged({ a: { dtype: "F32", shape: [], data_offsets: [0] } }, 4), "data_offsets"],
    [forged({ a: { dtype: "F32", shape: [1], data_offsets: [4, 0] } }, 4), "needs 4 bytes, has 4 to 0"],
    [forged({ a: f32(0, 8) }, 4), "ends at byte 8 of 4"],
    [forged({ a: f32(0, 8), b: f32(4, 12) }, 12), 'tensor "b" begins at byte 4, expected 8'],
    [forged({ a: f32(4, 8) }, 8), "begins at byte 4, expected 0"],
    [forged({ a: f32(0, 4) }, 8), "tensors end at byte 4 of 8"],
    [forged({ __metadata__: { k: 1 } }, 0), "__metadata__"],
    [forged({ __metadata__: 3 }, 0), "__metadata__"],
  ] as const) {
    expect(() => readSafetensors(file)).toThrow(message);
  }
});

test("a tensor called __proto__ is a tensor like others", () => {
  const file = forged('{"__proto__":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', 2);
  expect(readSafetensors(file).tensors.get("__proto__")?.bytes.length).toBe(2);
});

test("what cannot be written is refused", () => {
  const values = new Float32Array(2);
  expect(() => writeSafetensors([{ name: "a", shape: [3], values }])).toThrow("has 2 values");
  expect(() => writeSafetensors([{ name: "__metadata__", shape: [2], values }])).toThrow("reserved");
  expect(() => writeParams(layout, values)).toThrow("params of 2 elements");
});
