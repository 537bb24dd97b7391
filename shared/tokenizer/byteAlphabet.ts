/**
 * @file GPT-2's printable stand-ins for the 256 bytes, used by `tokenizer.json`: a byte that is a printable Latin-1
 * character stands for itself, the other 68 (controls, space, 0x7f–0xa0, 0xad) are U+0100 onwards in byte order.
 */

const printable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

/** byteSymbols[b] is the one-character stand-in for byte b. */
export const byteSymbols: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

const symbolBytes: ReadonlyMap<string, number> = new Map(byteSymbols.map((symbol, byte) => [symbol, byte]));

export function bytesToSymbols(bytes: Uint8Array): string {
  let symbols = "";
  for (const byte of bytes) symbols += byteSymbols[byte];
  return symbols;
}

/** @returns undefined when a character stands for no byte. */
export function symbolsToBytes(symbols: string): Uint8Array | undefined {
  const bytes = new Uint8Array(symbols.length);
  for (let i = 0; i < symbols.length; i++) {
    const byte = symbolBytes.get(symbols.charAt(i));
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
