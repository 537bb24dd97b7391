/**
 * @file When a guest may use its host's machine: what the volunteer asked for, and what the machine says, as a pure decision.
 * The session thread asks it several times a second and rests or comes back by the answer.
 */

export type GuestPreferences = {
  /** Part of the time that may be spent computing, 0 < intensity ≤ 1. */
  readonly intensity: number;
  readonly onlyPluggedIn: boolean;
  /** Up and down together, in units of 10⁶ bytes; null for no limit. */
  readonly megabytesPerHour: number | null;
};

/** What the page knows and the session thread cannot find out. */
export type GuestSituation = {
  readonly preferences: GuestPreferences;
  /** By the volunteer. */
  readonly paused: boolean;
  /** The browser is about to freeze the page. */
  readonly frozen: boolean;
  /** Null where the browser does not tell. */
  readonly pluggedIn: boolean | null;
};

export type DataUse = {
  readonly bytesLastHour: number;
  /** What the next round will take: a contribution and an update. */
  readonly roundBytes: number;
  /** What coming back will take: a snapshot and a round. */
  readonly returnBytes: number;
};

export type RestReason = "paused" | "frozen" | "battery" | "data";

/** Why this tab should do nothing now; null when it may work. `resting` is the answer before: coming back costs more than going on. */
export function restReason(
  { preferences, paused, frozen, pluggedIn }: GuestSituation,
  { bytesLastHour, roundBytes, returnBytes }: DataUse,
  resting: RestReason | null,
): RestReason | null {
  if (paused) return "paused";
  if (frozen) return "frozen";
  if (preferences.onlyPluggedIn && pluggedIn === false) return "battery";
  if (preferences.megabytesPerHour !== null) {
    const nextBytes = resting === null ? roundBytes : returnBytes;
    if (bytesLastHour + nextBytes > preferences.megabytesPerHour * 1e6) return "data";
  }
  return null;
}

/** Bytes by minute since the epoch, newest last; at most an hour of them. */
export type DataRecord = readonly (readonly [minute: number, bytes: number])[];

const MINUTE_MS = 60_000;
const MINUTES_KEPT = 60;

/** The record with these bytes in it, and without what is older than an hour. */
export function recordBytes(record: DataRecord, bytes: number, nowMs: number): DataRecord {
  const minute = Math.floor(nowMs / MINUTE_MS);
  const recent = record.filter(([at]) => at > minute - MINUTES_KEPT && at <= minute);
  const last = recent.at(-1);
  if (last?.[0] === minute) return [...recent.slice(0, -1), [minute, last[1] + bytes]];
  return [...recent, [minute, bytes]];
}

export function bytesInLastHour(record: DataRecord, nowMs: number): number {
  const minute = Math.floor(nowMs / MINUTE_MS);
  return record.reduce((sum, [at, bytes]) => (at > minute - MINUTES_KEPT && at <= minute ? sum + bytes : sum), 0);
}
