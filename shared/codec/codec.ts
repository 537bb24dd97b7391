/**
 * @file Parameters ⇄ bytes, by codec name. Contributions and updates carry the codec's name and these bytes.
 *
 * Every function works on elements [from, to) of a payload for `length` elements, so that threads can share one; from
 * and to are multiples of {@link CODEC_ALIGNMENT} (or the end). Bytes are little-endian, as is every machine we run on.
 */

import { decodeAddBlocks, decodeApplyBlocks, encodeBlocks, i4, i8, validateBlocks } from "./blockInt.ts";
import { checkFloats, decodeAddFloats, decodeApplyFloats, encodeFloats } from "./f32.ts";

/** `f32` is lossless; `i8` and `i4` are block integers with power-of-two scales. */
export type Codec = "f32" | "i8" | "i4";

export const codecs: readonly Codec[] = ["f32", "i8", "i4"];

/** Elements; the largest block, equal to the layout's slot alignment, so that no block straddles tensors or threads. */
export const CODEC_ALIGNMENT = 256;

/** What can be wrong with a payload; the same words travel in a refusal. */
export type PayloadProblem = "length" | "nonFinite" | "quant" | "exponent";

export type SliceCheck = {
  /** Σ x̂² over the slice, f64, in fixed order; meaningless when there is a problem. */
  readonly squaredNorm: number;
  readonly problem?: PayloadProblem;
};

/**
 * Bytes of a payload for `length` elements. @throws RangeError unless length is a multiple of {@link CODEC_ALIGNMENT}.
 */
export function encodedBytes(codec: Codec, length: number): number {
  if (!Number.isSafeInteger(length) || length < 0 || length % CODEC_ALIGNMENT !== 0) {
    throw new RangeError(`payload of ${length} elements, expected a multiple of ${CODEC_ALIGNMENT}`);
  }
  switch (codec) {
    case "f32":
      return 4 * length;
    case "i8":
      return length / i8.block + length;
    case "i4":
      return length / i4.block + length / 2;
    default:
      throw codec satisfies never;
  }
}

/**
 * Encodes values [n] as elements [at, at + n) of `out`, a payload for `length` elements. Mutates out.
 *
 * `i8` and `i4` cannot carry NaN or infinity: @throws RangeError for such a value, or a wrong length of out. `f32`
 * carries them, and {@link checkPayload} on the other side refuses them.
 */
export function encode(
  codec: Codec,
  values: Float32Array,
  out: Uint8Array,
  { at = 0, length = values.length }: { at?: number; length?: number } = {},
): void {
  if (out.length !== encodedBytes(codec, length)) {
    throw new RangeError(
      `${codec} buffer of ${out.length} bytes, ${length} elements need ${encodedBytes(codec, length)}`,
    );
  }
  switch (codec) {
    case "f32":
      return encodeFloats(values, out, at);
    case "i8":
      return encodeBlocks(i8, values, out, at, length);
    case "i4":
      return encodeBlocks(i4, values, out, at, length);
    default:
      throw codec satisfies never;
  }
}

/**
 * The elements of a payload as memory to compute into, where the codec's bytes are the values themselves; null where they
 * have to be encoded. Shares the payload's memory. @throws RangeError when the payload does not begin at a multiple of 4.
 */
export function elementsOf(codec: Codec, payload: Uint8Array): Float32Array | null {
  return codec === "f32" ? new Float32Array(payload.buffer, payload.byteOffset, payload.length / 4) : null;
}

/** The payload of values [P], in a buffer of its own. @throws RangeError as {@link encode}. */
export function encoded(codec: Codec, values: Float32Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(encodedBytes(codec, values.length));
  encode(codec, values, out);
  return out;
}

/**
 * Is the payload exactly one that an honest sender could have made? Length, finiteness, quants within ±M, exponents
 * within range. Reads every byte once and returns Σ x̂² with it. Never throws for any bytes: call it before any decode.
 */
export function checkPayload(codec: Codec, bytes: Uint8Array, length: number): SliceCheck {
  if (bytes.length !== encodedBytes(codec, length)) return { squaredNorm: NaN, problem: "length" };
  return checkSlice(codec, bytes, length, 0, length);
}

/** {@link checkPayload} for elements [from, to); the caller has checked the length of the bytes. */
export function checkSlice(codec: Codec, bytes: Uint8Array, length: number, from: number, to: number): SliceCheck {
  switch (codec) {
    case "f32":
      return checkFloats(bytes, from, to);
    case "i8":
      return validateBlocks(i8, bytes, length, from, to);
    case "i4":
      return validateBlocks(i4, bytes, length, from, to);
    default:
      throw codec satisfies never;
  }
}

/** total[i] += weight · x̂[i] for i in [from, to). Shapes: total [P] f64, bytes a checked payload for P. Mutates total. */
export function decodeAdd(
  codec: Codec,
  bytes: Uint8Array,
  total: Float64Array,
  weight = 1,
  from = 0,
  to: number = total.length,
): void {
  requireBytes(codec, bytes, total.length);
  switch (codec) {
    case "f32":
      return decodeAddFloats(bytes, total, weight, from, to);
    case "i8":
      return decodeAddBlocks(i8, bytes, total, weight, from, to);
    case "i4":
      return decodeAddBlocks(i4, bytes, total, weight, from, to);
    default:
      throw codec satisfies never;
  }
}

/**
 * θ[i] ← fround(θ[i] + x̂[i]) for i in [from, to): the one way an update is applied, on the coordinator and on every
 * worker, so that all hold the same bits. Shapes: params [P] f32, bytes a checked payload for P. Mutates params.
 * Source: docs/numerics.md §4.
 */
export function decodeApply(
  codec: Codec,
  bytes: Uint8Array,
  params: Float32Array,
  from = 0,
  to: number = params.length,
): void {
  requireBytes(codec, bytes, params.length);
  switch (codec) {
    case "f32":
      return decodeApplyFloats(bytes, params, from, to);
    case "i8":
      return decodeApplyBlocks(i8, bytes, params, from, to);
    case "i4":
      return decodeApplyBlocks(i4, bytes, params, from, to);
    default:
      throw codec satisfies never;
  }
}

function requireBytes(codec: Codec, bytes: Uint8Array, length: number): void {
  if (bytes.length !== encodedBytes(codec, length)) {
    throw new RangeError(`${codec} payload of ${bytes.length} bytes for ${length} elements`);
  }
}
