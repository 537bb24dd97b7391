/** @file UTF-8 through the encoders that every browser and Node have, declared here because shared/ has neither's types. */

type Encoder = { encode(text: string): Uint8Array };
export type Utf8Decoder = { decode(bytes?: Uint8Array, options?: { stream?: boolean }): string };
declare const TextEncoder: new () => Encoder;
declare const TextDecoder: new (label: "utf-8", options: { fatal: boolean; ignoreBOM: boolean }) => Utf8Decoder;

const encoder = new TextEncoder();

/** A lone surrogate becomes U+FFFD: it has no UTF-8 form. */
export function utf8Encode(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Bytes that are not UTF-8 become U+FFFD: a language model may write any bytes. A byte order mark is kept as it is. */
export function utf8Decoder(): Utf8Decoder {
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
}
