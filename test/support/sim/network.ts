/**
 * @file One direction of one connection under virtual time. TCP keeps order and loses nothing while it lives; the faults
 * are what it cannot hide, and what a peer that is broken or hostile can send:
 *
 * - delay: this frame and all behind it come later; cut: they wait until the network is whole again (or for ever)
 * - drop: a frame is lost, and with it, as TCP would have it, everything that follows on this connection
 * - duplicate, reorder: the same frame again, or behind its successors
 * - corrupt: bits flipped, cut short, or garbage. What no receiver could tell from an honest frame breaks the connection
 *   instead: that is what the checksums of TCP and TLS are for (docs/assumptions.md).
 */
import type { VirtualClock } from "../virtualClock.ts";

/** Probability per frame. */
export type FaultRates = {
  readonly delay: number;
  readonly drop: number;
  readonly duplicate: number;
  readonly reorder: number;
  readonly corrupt: number;
};

export const CALM: FaultRates = { delay: 0, drop: 0, duplicate: 0, reorder: 0, corrupt: 0 };

export type FaultCounts = { -readonly [K in keyof FaultRates]: number } & { frames: number };

export const LATENCY_MS = 1;

const MAX_DELAY_MS = 400;
const MAX_REORDER_MS = 60;

export type LaneOptions = {
  readonly clock: VirtualClock;
  readonly uniform: () => number;
  readonly rates: () => FaultRates;
  readonly isCut: () => boolean;
  readonly counts: FaultCounts;
  /** Whether the receiver has a way to notice that `damaged` is not what was sent. */
  readonly noticeable: (sent: Uint8Array, damaged: Uint8Array) => boolean;
  /** The transport's checksum failed for good. */
  readonly onBroken: () => void;
};

export type Lane = {
  readonly send: (bytes: Uint8Array, deliver: (bytes: Uint8Array) => void) => void;
  /** Something that is no frame (the opening, the end), in order behind the frames. */
  readonly signal: (deliver: () => void) => void;
  /** After a cut: what waited goes on its way. */
  readonly healed: () => void;
};

export function createLane({ clock, uniform, rates, isCut, counts, noticeable, onBroken }: LaneOptions): Lane {
  let lastAtMs = 0;
  let lost = false;
  const held: (() => void)[] = [];
  const arrive = (deliver: () => void): void => {
    if (isCut()) held.push(deliver);
    else deliver();
  };
  const inOrder = (delayMs: number, deliver: () => void): void => {
    lastAtMs = Math.max(lastAtMs, clock.nowMs() + LATENCY_MS + delayMs);
    clock.after(lastAtMs - clock.nowMs(), () => arrive(deliver));
  };
  return {
    send(sent, deliver) {
      counts.frames += 1;
      if (lost) return;
      const rate = rates();
      if (rate === CALM) {
        inOrder(0, () => deliver(sent));
        return;
      }
      const happens = (kind: keyof FaultRates): boolean => {
        if (rate[kind] === 0 || uniform() >= rate[kind]) return false;
        counts[kind] += 1;
        return true;
      };
      if (happens("drop")) {
        lost = true;
        return;
      }
      let bytes = sent;
      if (happens("corrupt")) {
        bytes = damage(sent, uniform);
        if (!noticeable(sent, bytes)) {
          lost = true;
          onBroken();
          return;
        }
      }
      const delayMs = happens("delay") ? uniform() * MAX_DELAY_MS : 0;
      if (happens("reorder")) clock.after(LATENCY_MS + uniform() * MAX_REORDER_MS, () => arrive(() => deliver(bytes)));
      else inOrder(delayMs, () => deliver(bytes));
      if (happens("duplicate"))
        clock.after(LATENCY_MS + uniform() * MAX_REORDER_MS, () => arrive(() => deliver(bytes)));
    },
    signal: (deliver) => inOrder(0, deliver),
    healed() {
      for (const deliver of held.splice(0)) inOrder(0, deliver);
    },
  };
}

function damage(sent: Uint8Array, uniform: () => number): Uint8Array {
  const choose = (limit: number): number => Math.floor(uniform() * limit);
  const kind = choose(8);
  if (kind === 0) return sent.slice(0, choose(sent.length));
  if (kind === 1) return Uint8Array.from({ length: choose(200) }, () => choose(256));
  if (kind === 2) {
    const longer = new Uint8Array(sent.length + 1 + choose(64));
    longer.set(sent);
    return longer;
  }
  const bytes = sent.slice();
  // Half of them in the first bytes, where lengths and fields are.
  for (let flips = 1 + choose(8); flips > 0; flips--) {
    const at = choose(choose(2) === 0 ? Math.min(64, bytes.length) : bytes.length);
    bytes[at]! ^= 1 << choose(8);
  }
  return bytes;
}
