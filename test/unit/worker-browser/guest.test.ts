import { describe, expect, test } from "vitest";
import { bytesInLastHour, recordBytes, restReason } from "../../../worker-browser/guest.ts";
import type { DataRecord, GuestSituation } from "../../../worker-browser/guest.ts";

const free: GuestSituation = {
  preferences: { intensity: 1, onlyPluggedIn: false, megabytesPerHour: null },
  paused: false,
  frozen: false,
  pluggedIn: false,
};
const nothingUsed = { bytesLastHour: 0, roundBytes: 0, returnBytes: 0 };

const minute = (index: number): number => index * 60_000 + 1234;

const capped = (megabytesPerHour: number): GuestSituation => ({
  ...free,
  preferences: { ...free.preferences, megabytesPerHour },
});

describe("when a guest rests", () => {
  test("not at all when nothing was asked for, and none was used up", () => {
    expect(restReason(free, nothingUsed, null)).toBeNull();
    expect(restReason(capped(1), nothingUsed, null)).toBeNull();
  });

  test("on battery only when that was asked for, and only where the browser tells", () => {
    const careful = { ...free, preferences: { ...free.preferences, onlyPluggedIn: true } };
    expect(restReason(careful, nothingUsed, null)).toBe("battery");
    expect(restReason({ ...careful, pluggedIn: true }, nothingUsed, "battery")).toBeNull();
    expect(restReason({ ...careful, pluggedIn: null }, nothingUsed, null)).toBeNull();
  });

  test("before the step that would go over the limit, not after it", () => {
    const use = { bytesLastHour: 9e6, roundBytes: 1e6, returnBytes: 3e6 };
    expect(restReason(capped(10), use, null)).toBeNull();
    expect(restReason(capped(10), { ...use, bytesLastHour: 9e6 + 1 }, null)).toBe("data");
  });

  test("comes back when the hour has room for the way back, not for a step alone", () => {
    const use = { bytesLastHour: 8e6, roundBytes: 1e6, returnBytes: 3e6 };
    expect(restReason(capped(10), use, "data")).toBe("data");
    expect(restReason(capped(10), { ...use, bytesLastHour: 7e6 }, "data")).toBeNull();
    // The same for who was paused meanwhile: going on means going back.
    expect(restReason(capped(10), use, "paused")).toBe("data");
  });

  test("a limit that holds not even the way back is kept to, for ever", () => {
    expect(restReason(capped(2), { bytesLastHour: 0, roundBytes: 1e6, returnBytes: 3e6 }, "data")).toBe("data");
  });

  test("the volunteer's own pause is the first reason", () => {
    expect(restReason({ ...free, paused: true, frozen: true }, nothingUsed, null)).toBe("paused");
    expect(restReason({ ...free, frozen: true }, nothingUsed, null)).toBe("frozen");
  });
});

describe("the bytes of an hour", () => {
  test("are forgotten after an hour, minute by minute", () => {
    let record: DataRecord = [];
    for (let index = 0; index < 200; index++) {
      for (let part = 0; part < 3; part++) record = recordBytes(record, 100, minute(index));
    }
    expect(record).toHaveLength(60);
    expect(bytesInLastHour(record, minute(199))).toBe(60 * 300);
    expect(bytesInLastHour(record, minute(229))).toBe(30 * 300);
    expect(bytesInLastHour(record, minute(300))).toBe(0);
  });

  test("a clock that was set back does not keep the future's bytes", () => {
    const record = recordBytes([], 100, minute(500));
    expect(bytesInLastHour(record, minute(100))).toBe(0);
    expect(recordBytes(record, 7, minute(100))).toEqual([[100, 7]]);
  });
});
