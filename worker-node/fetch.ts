/** @file Bytes from the coordinator's HTTP side, whole or a range. */

/** A coordinator that does not answer within this is away; the session tries again. */
const TIMEOUT_MS = 60_000;

export async function fetchBytes(url: string, range?: { start: number; end: number }): Promise<Uint8Array> {
  const headers: Record<string, string> = range === undefined ? {} : { range: `bytes=${range.start}-${range.end - 1}` };
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const expected = range === undefined ? 200 : 206;
  if (response.status !== expected) throw new Error(`${url}: HTTP status ${response.status}, expected ${expected}`);
  return new Uint8Array(await response.arrayBuffer());
}
