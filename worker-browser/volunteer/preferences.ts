/** @file What the volunteer set, kept between visits in this browser, and the bytes of the last hour beside it. */
import * as z from "zod/mini";
import type { DataRecord, GuestPreferences } from "../guest.ts";

export type Preferences = GuestPreferences & {
  /** Shown to the operator and on the board; empty: anonymous. */
  readonly name: string;
  readonly stayAwake: boolean;
};

/** What the wire and the coordinator take. */
export const MAX_NAME_LENGTH = 64;

/** The choices of the page. */
export const INTENSITIES = [0.25, 0.5, 0.75, 1] as const;

const PREFERENCES_KEY = "manyhands preferences";
const DATA_KEY = "manyhands data";

const stored = z.partial(
  z.object({
    name: z.string().check(z.maxLength(MAX_NAME_LENGTH)),
    intensity: z.number().check(z.minimum(0.05), z.maximum(1)),
    onlyPluggedIn: z.boolean(),
    megabytesPerHour: z.nullable(z.number().check(z.minimum(1))),
    stayAwake: z.boolean(),
  }),
);
const storedData = z.array(z.tuple([z.int(), z.number().check(z.minimum(0))])).check(z.maxLength(60));

export function recallPreferences(): Preferences {
  const found = recall(PREFERENCES_KEY, stored) ?? {};
  return {
    name: found.name ?? "",
    // A guest does not take all there is unless it is told to.
    intensity: found.intensity ?? 0.75,
    onlyPluggedIn: found.onlyPluggedIn ?? false,
    megabytesPerHour: found.megabytesPerHour ?? null,
    stayAwake: found.stayAwake ?? false,
  };
}

export function rememberPreferences(preferences: Preferences): void {
  remember(PREFERENCES_KEY, preferences);
}

export function recallData(): DataRecord {
  return recall(DATA_KEY, storedData) ?? [];
}

export function rememberData(record: DataRecord): void {
  remember(DATA_KEY, record);
}

/** Null when there is nothing, nothing that is understood, or no storage for us. */
function recall<T>(key: string, schema: z.ZodMiniType<T>): T | null {
  try {
    return z.parse(schema, JSON.parse(localStorage.getItem(key) ?? "null"));
  } catch {
    return null;
  }
}

function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Blocked storage: it holds until this tab closes, which is what the visitor asked the browser for.
  }
}
