/**
 * @file A worker that says what is not so: lengths, tokens, units, versions, leases, hashes, losses, speeds; old results again,
 * and a hundred pulls at once. Every lie here is one that the coordinator can see through. (A gradient that is plausible and
 * wrong is not: docs/assumptions.md.)
 */
import { decodeFrame, encodeFrame } from "../../../shared/wire/frame.ts";
import type { WorkerMessage } from "../../../shared/wire/protocol.ts";

type Result = Extract<WorkerMessage, { type: "contribution" | "evaluation" }>;

const resultLies: readonly ((message: Result, choose: (limit: number) => number) => Partial<Result>)[] = [
  ({ tokens }, choose) => ({ tokens: tokens + 1 + choose(1000) }),
  ({ units }) => ({ units: units + 1 }),
  ({ base }, choose) => ({ base: Math.max(0, base + (choose(2) === 0 ? 1 : -1)) }),
  (_, choose) => ({ lease: choose(200) }),
  (_, choose) => ({ lease: 2 ** 40 + choose(1000) }),
  (_, choose) => ({
    hash: choose(2 ** 32)
      .toString(16)
      .padStart(16, "0"),
  }),
  ({ firstUnit }, choose) => ({ firstUnit: firstUnit + 1000 + choose(2 ** 30) }),
  () => ({ lossSum: NaN }),
  () => ({ lossSum: -Infinity }),
  () => ({ computeMs: 1e9 }),
  () => ({ computeMs: -1 }),
];

/** Frames to send in the place of an honest one. Keeps what may be sent again. */
export function createLiar(uniform: () => number, rate: number): (honest: Uint8Array) => Uint8Array[] {
  const choose = (limit: number): number => Math.floor(uniform() * limit);
  const old: Uint8Array[] = [];
  const again = (): Uint8Array[] => (old.length > 0 ? [old[choose(old.length)]!] : []);
  return (honest) => {
    const frame = decodeFrame(honest);
    const message = frame.header as WorkerMessage;
    const carries = message.type === "contribution";
    if (carries) {
      old.push(honest.slice());
      if (old.length > 4) old.shift();
    }
    if (uniform() >= rate) return [honest];
    const payload = carries ? frame.payload : undefined;
    switch (message.type) {
      case "contribution":
      case "evaluation": {
        const kind = choose(resultLies.length + 4);
        const lie = resultLies[kind];
        if (lie !== undefined) return [encodeFrame({ ...message, ...lie(message, choose) }, payload)];
        if (kind === resultLies.length) return [honest, honest, ...again()];
        if (payload === undefined) return [encodeFrame(message, new Uint8Array(8))];
        const longer = new Uint8Array(payload.length + 8);
        longer.set(payload);
        return [
          encodeFrame(message, kind === resultLies.length + 1 ? longer : payload.subarray(0, choose(payload.length))),
        ];
      }
      case "ready":
        return [encodeFrame({ ...message, ...[{ unitMs: 0 }, { unitMs: 1e9 }, { version: message.version + 100 }, { hash: "f".repeat(16) }][choose(4)] })]; // prettier-ignore
      case "pull":
        return [...Array.from({ length: 100 }, () => honest), ...again()];
      case "release":
        return [encodeFrame({ ...message, lease: choose(200) }), honest];
      case "heartbeat":
        return [encodeFrame([{ type: "gradient" }, { type: "pull", lease: 1 }, [], { type: "leave", reason: 5 }][choose(4)]!), honest]; // prettier-ignore
      case "examination":
        return [encodeFrame({ ...message, lossSum: message.lossSum + 1 }, frame.payload)];
      case "hello":
      case "leave":
        return [honest];
      default:
        return message satisfies never;
    }
  };
}
