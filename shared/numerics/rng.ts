/**
 * @file Counter-based random numbers: the value is a pure function of (seed, counter), so a lease that is computed again,
 * elsewhere and later, draws the same numbers. Nothing in shared/ may use another source of randomness.
 */

/**
 * Mixes 32 bits so that each input bit flips each output bit with probability near one half; a bijection on uint32.
 * Source: the finaliser of MurmurHash3 (Appleby, 2011).
 */
export function mix32(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * A uint32 key for a stream named by integers, e.g. `streamKey(seed, step, sample, site)`. Order matters; each part may
 * be any safe integer (both 32-bit halves enter).
 */
export function streamKey(...parts: readonly number[]): number {
  let key = 0x9e3779b9;
  for (const part of parts) {
    key = mix32(key ^ (part >>> 0));
    key = mix32(key + Math.floor(part / 4294967296) + 0x7f4a7c15);
  }
  return key >>> 0;
}

/** Random uint32 number `index` of the stream `key`. */
export function randomUint32(key: number, index: number): number {
  return mix32((mix32((key + Math.imul(index, 0x9e3779b9)) | 0) ^ key) | 0);
}

/** Uniform in [0, 1) with 32 random bits. */
export function randomUniform(key: number, index: number): number {
  return randomUint32(key, index) / 4294967296;
}

/** Standard normal (Box–Muller on two uniforms of the stream; consumes counters 2·index and 2·index+1). */
export function randomNormal(key: number, index: number): number {
  const radius = Math.sqrt(-2 * Math.log((randomUint32(key, 2 * index) + 1) / 4294967297));
  return radius * Math.cos(2 * Math.PI * randomUniform(key, 2 * index + 1));
}
