import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import { ProtocolError } from "../../../shared/wire/protocol.ts";
import type { WorkerMessage } from "../../../shared/wire/protocol.ts";
import { validateCoordinatorMessage, validateWorkerMessage } from "../../../shared/wire/validate.ts";

const contribution: WorkerMessage = {
  type: "contribution",
  lease: 7,
  base: 3,
  hash: "0123456789abcdef",
  firstUnit: 2,
  units: 1,
  tokens: 256,
  lossSum: 1064.25,
  computeMs: 12.5,
};

test("[P1] a frame comes back as it was sent, its payload bit for bit and aligned to 8 bytes", () => {
  fc.assert(
    fc.property(fc.float32Array({ minLength: 1, maxLength: 300 }), (values) => {
      const payload = new Uint8Array(values.buffer.slice(0));
      const bytes = encodeFrame(contribution, payload);
      const frame = decodeFrame(bytes);
      expect(validateWorkerMessage(frame.header, frame.payload.length)).toEqual(contribution);
      expect(frame.payload).toEqual(payload);
      expect(frame.payload.byteOffset % 8).toBe(0);
    }),
  );
});

/** Calls it and returns the ProtocolError's code, or null when it accepts; any other error is a failure. */
function refusal(call: () => unknown): string | null {
  try {
    call();
    return null;
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
}

test("[P2] arbitrary bytes are refused with a code, never with another error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const code = refusal(() => {
        const frame = decodeFrame(bytes);
        validateWorkerMessage(frame.header, frame.payload.length);
      });
      expect(["bad-frame", "bad-message"]).toContain(code);
    }),
    { numRuns: 2000 },
  );
});

test("[P2] a valid frame with any bytes changed is accepted as a message of the same shape or refused with a code", () => {
  const valid = encodeFrame(contribution, new Uint8Array(64));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      fc.nat(valid.length),
      (changes, length) => {
        const bytes = valid.slice(0, length);
        for (const [index, value] of changes) if (index < length) bytes[index] = value;
        const code = refusal(() => {
          const frame = decodeFrame(bytes);
          const message = validateWorkerMessage(frame.header, frame.payload.length);
          if (message.type === "contribution") {
            for (const field of ["lease", "base", "firstUnit", "units", "tokens"] as const) {
              expect(Number.isSafeInteger(message[field]) && message[field] >= 0, field).toBe(true);
            }
          }
        });
        expect([null, "bad-frame", "bad-message"]).toContain(code);
      },
    ),
    { numRuns: 3000 },
  );
});

test.each([
  ["an unknown type", { type: "reboot" }],
  ["a field too many", { type: "pull", admin: true }],
  ["a missing field", { type: "release", lease: 1 }],
  ["a negative count", { ...contribution, units: -1 }],
  ["a fraction where a count belongs", { ...contribution, firstUnit: 0.5 }],
  ["a count beyond exact integers", { ...contribution, base: 2 ** 53 }],
  ["a hash that is none", { ...contribution, hash: "not a hash" }],
  ["a name of a megabyte", { type: "hello", protocolVersion: 1, kind: "node", name: "x".repeat(2 ** 20) }],
  ["null", null],
  ["a number", 5],
])("[P3] %s is refused as bad-message", (_, header) => {
  expect(refusal(() => validateWorkerMessage(header, header === contribution ? 8 : 0))).toBe("bad-message");
});

test("[P3] a payload where none belongs, and none where one belongs, are refused", () => {
  expect(refusal(() => validateWorkerMessage({ type: "pull" }, 8))).toBe("bad-message");
  expect(refusal(() => validateWorkerMessage(contribution, 0))).toBe("bad-message");
  expect(refusal(() => validateCoordinatorMessage({ type: "finished", version: 1 }, 1))).toBe("bad-message");
});

test("[P3] a lossSum of NaN is a message: its content is refused later, and its lease goes back", () => {
  expect(refusal(() => validateWorkerMessage({ ...contribution, lossSum: NaN }, 8))).toBe(null);
});
