import { expect, test } from "vitest";
import { decodeApply, encoded } from "../../../shared/codec/codec.ts";

test("a payload in a Node Buffer at an odd address is read where it lies", () => {
  const values = Float32Array.from({ length: 256 }, (_, i) => i - 0.25);
  const payload = encoded("f32", values);
  const pool = Buffer.alloc(payload.length + 8);
  pool.set(payload, 3);
  const params = new Float32Array(256);
  decodeApply("f32", pool.subarray(3, 3 + payload.length), params);
  expect(params).toEqual(values);
});
