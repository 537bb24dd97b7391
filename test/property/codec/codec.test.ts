import * as fc from "fast-check";
import { expect, test } from "vitest";
import { checkPayload, codecs, decodeAdd, decodeApply, encode, encoded, encodedBytes } from "../../../shared/codec/codec.ts"; // prettier-ignore
import { randomNormal, randomUint32 } from "../../../shared/numerics/rng.ts";

/** Blocks of very different scales, with zeros, denormals and whole empty blocks among them. */
const arenas = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.nat(), fc.integer({ min: -150, max: 65 }))
  .map(([blocks, seed, scale]) =>
    Float32Array.from({ length: 256 * blocks }, (_, i) => {
      const blockScale = 2 ** (scale + (randomUint32(seed, Math.floor(i / 64)) % 30));
      return randomUint32(seed + 1, Math.floor(i / 64)) % 5 === 0 ? 0 : randomNormal(seed, i) * blockScale;
    }),
  );

/** NUMERICS §3 in plain f64, with logarithms corrected by comparison instead of bit patterns. */
function referenceBlock(values: readonly number[], max: number): number[] {
  const a = Math.max(...values.map(Math.abs));
  if (a === 0) return values.map(() => 0);
  let e = -100;
  while (e < 100 && a > max * 2 ** e) e++;
  return values.map((x) => {
    const scaled = x / 2 ** e;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    const q = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
    return Math.max(-max, Math.min(max, q)) * 2 ** e;
  });
}

test("decoded values equal an independent reference, element by element", () => {
  fc.assert(
    fc.property(arenas, (values) => {
      for (const [codec, block, max] of [
        ["i8", 256, 127],
        ["i4", 64, 7],
      ] as const) {
        // prettier-ignore
        const decoded = new Float64Array(values.length);
        decodeAdd(codec, encoded(codec, values), decoded);
        for (let start = 0; start < values.length; start += block) {
          const expected = referenceBlock([...values.subarray(start, start + block)], max);
          expect([...decoded.subarray(start, start + block)].map((x) => x + 0)).toEqual(expected.map((x) => x + 0));
        }
      }
    }),
  );
});

test("the error is at most half a quant, and encoding what was decoded changes nothing", () => {
  fc.assert(
    fc.property(arenas, (values) => {
      for (const [codec, block, max] of [
        ["i8", 256, 127],
        ["i4", 64, 7],
      ] as const) {
        // prettier-ignore
        const bytes = encoded(codec, values);
        const decoded = new Float32Array(values.length);
        decodeApply(codec, bytes, decoded);
        for (let i = 0; i < values.length; i++) {
          const start = i - (i % block);
          const a = Math.max(...values.subarray(start, start + block).map(Math.abs));
          // 2^e < 2·a/M unless e was clamped to −100; half of that.
          expect(Math.abs(decoded[i]! - values[i]!)).toBeLessThanOrEqual(Math.max(a / max, 2 ** -101));
        }
        const again = new Float32Array(values.length);
        decodeApply(codec, encoded(codec, decoded), again);
        expect(again).toEqual(decoded);
      }
    }),
  );
});

test("slices encoded, checked and decoded apart equal the whole", () => {
  fc.assert(
    fc.property(arenas, fc.nat(4), (values, cutBlock) => {
      const cut = Math.min(256 * cutBlock, values.length);
      for (const codec of codecs) {
        const whole = encoded(codec, values);
        const parts = new Uint8Array(encodedBytes(codec, values.length)).fill(0xee);
        encode(codec, values.subarray(cut), parts, { at: cut, length: values.length });
        encode(codec, values.subarray(0, cut), parts, { at: 0, length: values.length });
        expect(parts).toEqual(whole);
        const total = new Float64Array(values.length).fill(1);
        decodeAdd(codec, whole, total, 3, cut);
        decodeAdd(codec, whole, total, 3, 0, cut);
        const expected = new Float64Array(values.length).fill(1);
        decodeAdd(codec, whole, expected, 3);
        expect(total).toEqual(expected);
        const applied = values.slice();
        decodeApply(codec, whole, applied, 0, cut);
        decodeApply(codec, whole, applied, cut);
        const appliedWhole = values.slice();
        decodeApply(codec, whole, appliedWhole);
        expect(applied).toEqual(appliedWhole);
      }
    }),
  );
});

test("f32 brings every bit across, at any address", () => {
  fc.assert(
    fc.property(arenas, fc.integer({ min: 0, max: 7 }), (values, shift) => {
      const bytes = new Uint8Array(4 * values.length + shift);
      bytes.set(encoded("f32", values), shift);
      const total = new Float64Array(values.length);
      decodeAdd("f32", bytes.subarray(shift), total);
      expect(Float32Array.from(total)).toEqual(values.map((x) => x + 0));
    }),
  );
});

test("[I1] the sum of block-integer contributions is the same bits in any order", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 2, max: 12 }), (seed, count) => {
      // Contributions of one round differ in scale by a few powers of two, far within f64's 52 bits.
      const payloads = Array.from({ length: count }, (_, c) =>
        encoded(
          "i8",
          Float32Array.from({ length: 512 }, (_, i) => randomNormal(seed + c, i) * 2 ** ((c * 5) % 9)),
        ),
      );
      const forwards = new Float64Array(512);
      for (const payload of payloads) decodeAdd("i8", payload, forwards);
      const backwards = new Float64Array(512);
      for (const payload of payloads.toReversed()) decodeAdd("i8", payload, backwards);
      expect(backwards).toEqual(forwards);
    }),
  );
});

test("[I6] arbitrary bytes are either refused, or decode to finite numbers whose norm was reported", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...codecs),
      fc.uint8Array({ minLength: 0, maxLength: 40 }),
      fc.nat(),
      (codec, seed, at) => {
        // prettier-ignore
        const bytes = encoded(codec, new Float32Array(256).fill(0.5));
        bytes.set(seed.subarray(0, bytes.length), at % Math.max(1, bytes.length - seed.length));
        const { problem, squaredNorm } = checkPayload(codec, bytes, 256);
        if (problem !== undefined) return;
        const total = new Float64Array(256);
        decodeAdd(codec, bytes, total);
        const norm = total.reduce((sum, x) => sum + x * x, 0);
        expect(Number.isFinite(norm)).toBe(true);
        expect(Math.abs(squaredNorm - norm)).toBeLessThanOrEqual(1e-12 * norm);
      },
    ),
    { numRuns: 2000 },
  );
});
