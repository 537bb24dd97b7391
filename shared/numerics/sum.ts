/**
 * @file Adding gradients. Totals are f64: at 53 bits a sum of f32 gradients loses nothing that an f32 result could show.
 * Loops take four elements a turn: their own overhead is as dear as the work.
 */

/**
 * total[i] += weight · values[i] for i in [from, to), in place. Shapes: total [P] f64, values [P] f32.
 *
 * Callers add contributions in unit order: float addition is not associative, so arrival order would give every run
 * its own parameters. Source: docs/numerics.md §1.
 *
 * @throws RangeError when the lengths differ.
 */
export function addScaled(
  total: Float64Array,
  values: Float32Array,
  weight: number,
  from = 0,
  to: number = values.length,
): void {
  if (total.length !== values.length) {
    throw new RangeError(`adding ${values.length} values to a total of ${total.length}`);
  }
  for (let i = from; i < to; i++) total[i]! += weight * values[i]!;
}

/**
 * out[i] = fround(scale · total[i]) for i in [from, to). Shapes: total [P] f64, out [P] f32. Mutates out.
 *
 * @throws RangeError when the lengths differ.
 */
export function roundScaled(
  out: Float32Array,
  total: Float64Array,
  scale: number,
  from = 0,
  to: number = total.length,
): void {
  if (total.length !== out.length) throw new RangeError(`rounding ${total.length} sums into ${out.length} values`);
  const whole = from + ((to - from) & ~3);
  for (let i = from; i < whole; i += 4) {
    out[i] = scale * total[i]!;
    out[i + 1] = scale * total[i + 1]!;
    out[i + 2] = scale * total[i + 2]!;
    out[i + 3] = scale * total[i + 3]!;
  }
  for (let i = whole; i < to; i++) out[i] = scale * total[i]!;
}

/**
 * out[i] = fround(a[i + offset] − b[i + offset]) for every i of out. Shapes: a, b [P] f32, out [n] f32, n + offset ≤ P.
 * Mutates out.
 */
export function subtract(out: Float32Array, a: Float32Array, b: Float32Array, offset = 0): void {
  const whole = out.length & ~3;
  for (let i = 0, j = offset; i < whole; i += 4, j += 4) {
    out[i] = a[j]! - b[j]!;
    out[i + 1] = a[j + 1]! - b[j + 1]!;
    out[i + 2] = a[j + 2]! - b[j + 2]!;
    out[i + 3] = a[j + 3]! - b[j + 3]!;
  }
  for (let i = whole; i < out.length; i++) out[i] = a[offset + i]! - b[offset + i]!;
}
