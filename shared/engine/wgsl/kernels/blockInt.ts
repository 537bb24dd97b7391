/**
 * @file Block integers of shared/codec/blockInt.ts on the device, the same bits: a quarter of the bytes is read back. One workgroup
 * encodes four blocks, 1,024 elements, so that four exponents fill a word.
 */
import { i8 } from "../../../codec/blockInt.ts";
import type { ArenaKernel } from "./optimizer.ts";
import { inARow } from "./kernel.ts";

/** Elements of a workgroup: four blocks. */
const GROUP = 4 * i8.block;

/** An exponent that no encoder writes: the block has a value that is not finite. */
export const NOT_FINITE = 127;

/** Words of the kernel's two results for `length` elements: exponents (four a word), then quants (four a word). */
export function encodedWords(length: number): { exponents: number; quants: number } {
  return { exponents: Math.ceil(length / GROUP), quants: length / 4 };
}

/** Bindings: values [P] → exponents, quants, as 32-bit words. P is a multiple of 256. */
export function encodeI8Kernel(length: number): ArenaKernel {
  const { workgroups, at } = inARow(Math.ceil(length / GROUP));
  return {
    workgroups,
    wgsl: `@group(0) @binding(0) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> exponents: array<u32>;
@group(0) @binding(2) var<storage, read_write> quants: array<u32>;
var<workgroup> largest: array<u32, 256>;
fn exponentOf(most: u32) -> i32 {
  if (most == 0u) { return -128; }
  if (most >= 0x7f800000u) { return ${NOT_FINITE}; }
  let fits = (most & 0x7fffffu) <= ${i8.maxMantissa}u;
  return clamp(i32(most >> 23u) - 127 - ${i8.maxExponent} + select(1, 0, fits), -100, 100);
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = ${at};
  let i = number * 256u + lane;
  var x = vec4<f32>();
  if (i < ${length / 4}u) { x = values[i]; }
  let bits = bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
  largest[lane] = max(max(bits.x, bits.y), max(bits.z, bits.w));
  workgroupBarrier();
  for (var half = 32u; half >= 1u; half /= 2u) {
    if (lane % 64u < half) { largest[lane] = max(largest[lane], largest[lane + half]); }
    workgroupBarrier();
  }
  let exponent = exponentOf(largest[lane / 64u * 64u]);
  // 2^−e from its bits; 0 for a block of zeros.
  let inverse = select(bitcast<f32>(u32(127 - exponent) << 23u), 0.0f, exponent == -128 || exponent == ${NOT_FINITE});
  let q = vec4<i32>(clamp(round(x * inverse), vec4<f32>(-127.0), vec4<f32>(127.0)));
  if (i < ${length / 4}u) {
    quants[i] = (u32(q.x) & 255u) | ((u32(q.y) & 255u) << 8u) | ((u32(q.z) & 255u) << 16u) | (u32(q.w) << 24u);
  }
  if (lane == 0u && number < ${Math.ceil(length / GROUP)}u) {
    var word = 0u;
    for (var b = 0u; b < 4u; b++) { word |= (u32(exponentOf(largest[b * 64u])) & 255u) << (8u * b); }
    exponents[number] = word;
  }
}`,
  };
}
