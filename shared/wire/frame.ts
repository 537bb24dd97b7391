/**
 * @file Bytes of one message: u32 LE header length · msgpack header · zero padding to 8 bytes · payload (raw tensor bytes).
 * Tensors stay out of msgpack, which would copy them and lose their alignment. Sole importer of msgpackr.
 */
import { Packr, Unpackr } from "msgpackr";
import { ProtocolError } from "./protocol.ts";

export type Frame = {
  /** The message as it came off the wire: unchecked. */
  readonly header: unknown;
  /** Empty when the message has none. A view into the frame's bytes: copy what must outlive the handler. */
  readonly payload: Uint8Array;
};

/** A header is a handful of short fields; the largest (`welcome`) is below 2 KiB. */
export const MAX_HEADER_BYTES: number = 16 * 1024;

/** Room for the length, the header and its padding: what a frame may have beyond its payload. */
export const FRAME_OVERHEAD_BYTES: number = MAX_HEADER_BYTES + 16;

const PAYLOAD_ALIGNMENT = 8;

/** A header of a contribution has about 200 bytes. */
const PAYLOAD_HEADROOM = 512;

// useRecords would make the meaning of one frame depend on the frames before it.
const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** @throws RangeError when the header is larger than {@link MAX_HEADER_BYTES}: a bug of ours, not of the peer's. */
export function encodeFrame(message: object, payload?: Uint8Array): Uint8Array<ArrayBuffer> {
  const header = packr.pack(message);
  if (header.length > MAX_HEADER_BYTES) throw new RangeError(`header has ${header.length} bytes`);
  const payloadStart = alignUp(4 + header.length);
  const bytes = new Uint8Array(payload === undefined ? 4 + header.length : payloadStart + payload.length);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  bytes.set(header, 4);
  if (payload !== undefined) bytes.set(payload, payloadStart);
  return bytes;
}

/**
 * A payload with room before it for {@link encodeFrameInPlace}: megabytes of gradients are then never copied into a frame, and
 * their memory can be used again.
 */
export function allocatePayload(bytes: number, buffer?: ArrayBuffer): Uint8Array<ArrayBuffer> {
  const size = PAYLOAD_HEADROOM + bytes;
  return new Uint8Array(buffer?.byteLength === size ? buffer : new ArrayBuffer(size), PAYLOAD_HEADROOM);
}

/** As {@link encodeFrame}, around a payload of {@link allocatePayload}: writes the header before it and returns a view. */
export function encodeFrameInPlace(message: object, payload: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const header = packr.pack(message);
  const start = PAYLOAD_HEADROOM - alignUp(4 + header.length);
  if (payload.byteOffset !== PAYLOAD_HEADROOM || start < 0) {
    throw new RangeError(`a header of ${header.length} bytes before a payload at ${payload.byteOffset}`);
  }
  const bytes = new Uint8Array(payload.buffer, start);
  new DataView(payload.buffer).setUint32(start, header.length, true);
  bytes.set(header, 4);
  bytes.fill(0, 4 + header.length, PAYLOAD_HEADROOM - start);
  return bytes;
}

/** @throws ProtocolError `bad-frame` when the bytes are not a frame. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.length < 5) throw new ProtocolError("bad-frame", `a frame has at least 5 bytes, this one ${bytes.length}`);
  const headerBytes = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
  if (headerBytes > MAX_HEADER_BYTES || 4 + headerBytes > bytes.length) {
    throw new ProtocolError("bad-frame", `header of ${headerBytes} bytes in a frame of ${bytes.length}`);
  }
  let header: unknown;
  try {
    // A copy: msgpackr may hand out views into what it reads.
    header = unpackr.unpack(bytes.slice(4, 4 + headerBytes));
  } catch (error) {
    throw new ProtocolError("bad-frame", `header is not msgpack: ${error instanceof Error ? error.message : "?"}`);
  }
  return { header, payload: bytes.subarray(Math.min(bytes.length, alignUp(4 + headerBytes))) };
}

function alignUp(offset: number): number {
  return Math.ceil(offset / PAYLOAD_ALIGNMENT) * PAYLOAD_ALIGNMENT;
}
