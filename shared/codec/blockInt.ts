/**
 * @file Block integers with a power-of-two scale (`i8`, `i4`): a quarter or an eighth of the bytes of f32.
 *
 * Payload for P elements: P/B exponents (int8), then the quants: int8 each, or two nibbles a byte (even element in the
 * low one, two's complement). Per block of B elements, M = 127 or 7:
 *
 *     a = max|x| ; e = a > 0 ? clamp(⌈log2(a/M)⌉, −100, 100) : −128 (a block of zeros)
 *     q = clamp(roundTiesToEven(x·2^−e), −M, M)         x̂ = q·2^e, exact in f32
 *
 * Powers of two, at the price of half a bit, because decoding is then exact: q·2^e added in f64, in f32 with a fused
 * multiply-add, or on a GPU gives the same bits everywhere. Source: docs/numerics.md §3.
 */

import type { SliceCheck } from "./codec.ts";

export type BlockFormat = {
  /** B: elements that share an exponent. */
  readonly block: 256 | 64;
  readonly bits: 8 | 4;
  /** M: the largest quant. */
  readonly max: 127 | 7;
  /** ⌊log2 M⌋. */
  readonly maxExponent: 6 | 2;
  /** Mantissa bits of M as a float: with a = m·2^k, 1 ≤ m < 2, the exponent is k − maxExponent if m ≤ M/2^maxExponent. */
  readonly maxMantissa: number;
};

export const i8: BlockFormat = { block: 256, bits: 8, max: 127, maxExponent: 6, maxMantissa: 0x7e0000 };
export const i4: BlockFormat = { block: 64, bits: 4, max: 7, maxExponent: 2, maxMantissa: 0x600000 };

/** Keeps 2^e, 2^−e and q·2^e normal in f32; gradients outside 1e-30 … 1e30 are no gradients. */
const EXPONENT_LIMIT = 100;
/** Marks a block of zeros, so that it has one encoding and no scale. */
const ZERO_BLOCK = -128;

/** Adding and subtracting 1.5·2^52 rounds a smaller f64 to the nearest integer, ties to even. */
const ROUNDER = 6755399441055744;

/** scales[e + 128] = 2^e built from the bit pattern; 0 for a block of zeros. Bytes that were checked use no other entry. */
const scales: Float64Array = scaleTable();

function scaleTable(): Float64Array {
  const bits = new Int32Array(1);
  const float = new Float32Array(bits.buffer);
  return Float64Array.from({ length: 256 }, (_, index) => {
    const exponent = index - 128;
    if (Math.abs(exponent) > EXPONENT_LIMIT) return 0;
    bits[0] = (exponent + 127) << 23;
    return float[0]!;
  });
}

/**
 * The block's exponent from the bits of a = max|x| (sign cleared), never through a logarithm: logarithms differ between
 * machines in the last bit, and at a power of two that is a different payload.
 */
export function blockExponent(format: BlockFormat, maxBits: number): number {
  if (maxBits === 0) return ZERO_BLOCK;
  const fits = (maxBits & 0x7fffff) <= format.maxMantissa;
  const exponent = (maxBits >>> 23) - 127 - format.maxExponent + (fits ? 0 : 1);
  return Math.max(-EXPONENT_LIMIT, Math.min(EXPONENT_LIMIT, exponent));
}

/**
 * values [n] → elements [at, at + n) of a payload `out` for `length` elements. Mutates out.
 *
 * @throws RangeError when n or `at` is not a multiple of the block, or a value is NaN or infinite.
 */
export function encodeBlocks(
  format: BlockFormat,
  values: Float32Array,
  out: Uint8Array,
  at: number,
  length: number,
): void {
  const { block } = format;
  if (values.length % block !== 0 || at % block !== 0) {
    throw new RangeError(`slice of ${values.length} elements at ${at} does not consist of blocks of ${block}`);
  }
  const exponents = new Int8Array(out.buffer, out.byteOffset, length / block);
  const quants = quantBytes(format, out, length);
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let start = 0; start < values.length; start += block) {
    const maxBits = maxMagnitude(bits, start, start + block);
    if (maxBits >= 0x7f800000) {
      throw new RangeError(`non-finite value among elements ${at + start} to ${at + start + block - 1}`);
    }
    const exponent = blockExponent(format, maxBits);
    exponents[(at + start) / block] = exponent;
    if (exponent === ZERO_BLOCK) {
      quants.fill(0, ((at + start) * format.bits) / 8, ((at + start + block) * format.bits) / 8);
    } else if (exponent === EXPONENT_LIMIT) {
      quantizeClamped(format, values, quants, start, at);
    } else if (format.bits === 8) {
      quantize8(values, quants, start, at + start, scales[128 - exponent]!);
    } else {
      quantize4(values, quants, start, (at + start) / 2, scales[128 - exponent]!);
    }
  }
}

/**
 * Largest float bit pattern without sign: for non-negative floats, bit order is value order, and NaN sorts last. This
 * and the loops below take four elements a turn: the loop's own overhead is as dear as the work.
 */
function maxMagnitude(bits: Int32Array, from: number, to: number): number {
  let max0 = 0;
  let max1 = 0;
  let max2 = 0;
  let max3 = 0;
  for (let i = from; i < to; i += 4) {
    const x0 = bits[i]! & 0x7fffffff;
    const x1 = bits[i + 1]! & 0x7fffffff;
    const x2 = bits[i + 2]! & 0x7fffffff;
    const x3 = bits[i + 3]! & 0x7fffffff;
    if (x0 > max0) max0 = x0;
    if (x1 > max1) max1 = x1;
    if (x2 > max2) max2 = x2;
    if (x3 > max3) max3 = x3;
  }
  return Math.max(max0, max1, max2, max3);
}

function quantize8(values: Float32Array, quants: Int8Array, from: number, to: number, inverse: number): void {
  for (let i = from, j = to; i < from + 256; i += 4, j += 4) {
    quants[j] = (values[i]! * inverse + ROUNDER - ROUNDER) | 0;
    quants[j + 1] = (values[i + 1]! * inverse + ROUNDER - ROUNDER) | 0;
    quants[j + 2] = (values[i + 2]! * inverse + ROUNDER - ROUNDER) | 0;
    quants[j + 3] = (values[i + 3]! * inverse + ROUNDER - ROUNDER) | 0;
  }
}

function quantize4(values: Float32Array, quants: Int8Array, from: number, to: number, inverse: number): void {
  for (let i = from, j = to; i < from + 64; i += 4, j += 2) {
    const q0 = (values[i]! * inverse + ROUNDER - ROUNDER) | 0;
    const q1 = (values[i + 1]! * inverse + ROUNDER - ROUNDER) | 0;
    const q2 = (values[i + 2]! * inverse + ROUNDER - ROUNDER) | 0;
    const q3 = (values[i + 3]! * inverse + ROUNDER - ROUNDER) | 0;
    quants[j] = (q0 & 15) | (q1 << 4);
    quants[j + 1] = (q2 & 15) | (q3 << 4);
  }
}

/** Only where the exponent itself was clamped from above can |x|·2^−e exceed M. */
function quantizeClamped(format: BlockFormat, values: Float32Array, quants: Int8Array, from: number, at: number): void {
  const clamped = new Float32Array(format.block);
  const limit = format.max * scales[128 + EXPONENT_LIMIT]!;
  for (let i = 0; i < format.block; i++) clamped[i] = Math.max(-limit, Math.min(limit, values[from + i]!));
  const inverse = scales[128 - EXPONENT_LIMIT]!;
  if (format.bits === 8) quantize8(clamped, quants, 0, at + from, inverse);
  else quantize4(clamped, quants, 0, (at + from) / 2, inverse);
}

/**
 * Checks every exponent (−100 … 100, or −128 over zeros) and quant (|q| ≤ M) of elements [from, to) and sums x̂²:
 * Σq² of a block is an exact integer (≤ 256·127²), times 2^2e, added in f64 in block order. Mutates nothing.
 */
export function validateBlocks(
  format: BlockFormat,
  bytes: Uint8Array,
  length: number,
  from: number,
  to: number,
): SliceCheck {
  const { block } = format;
  const exponents = new Int8Array(bytes.buffer, bytes.byteOffset, length / block);
  const quants = quantBytes(format, bytes, length);
  const perByte = 8 / format.bits;
  let squaredNorm = 0;
  for (let start = from; start < to; start += block) {
    const exponent = exponents[start / block]!;
    if (exponent !== ZERO_BLOCK && Math.abs(exponent) > EXPONENT_LIMIT) return { squaredNorm, problem: "exponent" };
    const first = start / perByte;
    const squares = format.bits === 8 ? squares8(quants, first) : squares4(quants, first);
    if (squares < 0) return { squaredNorm, problem: "quant" };
    if (exponent === ZERO_BLOCK && squares !== 0) return { squaredNorm, problem: "exponent" };
    const scale = scales[exponent + 128]!;
    squaredNorm += squares * scale * scale;
  }
  return { squaredNorm };
}

/** Σ q² of 256 int8, or −1 when one is −128: only for that one is q + 127 negative. */
function squares8(quants: Int8Array, first: number): number {
  let sum = 0;
  let signs = 0;
  for (let i = first; i < first + 256; i += 4) {
    const q0 = quants[i]!;
    const q1 = quants[i + 1]!;
    const q2 = quants[i + 2]!;
    const q3 = quants[i + 3]!;
    sum = (sum + Math.imul(q0, q0) + Math.imul(q1, q1) + Math.imul(q2, q2) + Math.imul(q3, q3)) | 0;
    signs |= (q0 + 127) | (q1 + 127) | (q2 + 127) | (q3 + 127);
  }
  return signs < 0 ? -1 : sum;
}

/** Σ q² of 64 nibbles, or −1 when one is −8. */
function squares4(quants: Int8Array, first: number): number {
  let sum = 0;
  let signs = 0;
  for (let i = first; i < first + 32; i += 2) {
    const q0 = (quants[i]! << 28) >> 28;
    const q1 = quants[i]! >> 4;
    const q2 = (quants[i + 1]! << 28) >> 28;
    const q3 = quants[i + 1]! >> 4;
    sum = (sum + Math.imul(q0, q0) + Math.imul(q1, q1) + Math.imul(q2, q2) + Math.imul(q3, q3)) | 0;
    signs |= (q0 + 7) | (q1 + 7) | (q2 + 7) | (q3 + 7);
  }
  return signs < 0 ? -1 : sum;
}

/** total[i] += weight · q_i·2^e for i in [from, to). Shapes: total [P] f64. Mutates total. Bytes were checked. */
export function decodeAddBlocks(
  format: BlockFormat,
  bytes: Uint8Array,
  total: Float64Array,
  weight: number,
  from: number,
  to: number,
): void {
  const exponents = new Int8Array(bytes.buffer, bytes.byteOffset, total.length / format.block);
  const quants = quantBytes(format, bytes, total.length);
  for (let start = from; start < to; start += format.block) {
    const scale = weight * scales[exponents[start / format.block]! + 128]!;
    if (format.bits === 8) addBlock8(quants, total, start, scale);
    else addBlock4(quants, total, start, scale);
  }
}

function addBlock8(quants: Int8Array, total: Float64Array, start: number, scale: number): void {
  for (let i = start; i < start + 256; i += 4) {
    total[i]! += quants[i]! * scale;
    total[i + 1]! += quants[i + 1]! * scale;
    total[i + 2]! += quants[i + 2]! * scale;
    total[i + 3]! += quants[i + 3]! * scale;
  }
}

function addBlock4(quants: Int8Array, total: Float64Array, start: number, scale: number): void {
  for (let i = start, j = start / 2; i < start + 64; i += 2, j++) {
    const pair = quants[j]!;
    total[i]! += ((pair << 28) >> 28) * scale;
    total[i + 1]! += (pair >> 4) * scale;
  }
}

/**
 * params[i] ← fround(params[i] + q_i·2^e) for i in [from, to). Shapes: params [P] f32. Mutates params. Bytes were checked.
 *
 * The sum is rounded to f64 and then to f32; for two f32 operands that equals one rounding to f32 (53 ≥ 2·24 + 2 bits),
 * so WGSL's `a + f32(q)·2^e` gives the same bits.
 */
export function decodeApplyBlocks(
  format: BlockFormat,
  bytes: Uint8Array,
  params: Float32Array,
  from: number,
  to: number,
): void {
  const exponents = new Int8Array(bytes.buffer, bytes.byteOffset, params.length / format.block);
  const quants = quantBytes(format, bytes, params.length);
  for (let start = from; start < to; start += format.block) {
    const scale = scales[exponents[start / format.block]! + 128]!;
    if (format.bits === 8) applyBlock8(quants, params, start, scale);
    else applyBlock4(quants, params, start, scale);
  }
}

function applyBlock8(quants: Int8Array, params: Float32Array, start: number, scale: number): void {
  for (let i = start; i < start + 256; i += 4) {
    params[i]! += quants[i]! * scale;
    params[i + 1]! += quants[i + 1]! * scale;
    params[i + 2]! += quants[i + 2]! * scale;
    params[i + 3]! += quants[i + 3]! * scale;
  }
}

function applyBlock4(quants: Int8Array, params: Float32Array, start: number, scale: number): void {
  for (let i = start, j = start / 2; i < start + 64; i += 2, j++) {
    const pair = quants[j]!;
    params[i]! += ((pair << 28) >> 28) * scale;
    params[i + 1]! += (pair >> 4) * scale;
  }
}

/** The quants' section, behind the exponents'. */
function quantBytes(format: BlockFormat, bytes: Uint8Array, length: number): Int8Array {
  return new Int8Array(bytes.buffer, bytes.byteOffset + length / format.block, (length * format.bits) / 8);
}
