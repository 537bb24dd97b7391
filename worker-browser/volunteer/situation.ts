/**
 * @file What the browser tells of the machine that a guest must know: power, freezing, the network, sleep. And the screen
 * wake lock, which the browser takes back whenever the page is hidden.
 */

export type Situation = {
  /** Null where the browser does not tell. */
  readonly pluggedIn: boolean | null;
  /** The browser is freezing the page. */
  readonly frozen: boolean;
};

export type SituationPorts = {
  readonly onChange: (situation: Situation) => void;
  /** Connections may be dead, or possible again. */
  readonly onNetwork: (reason: string) => void;
};

/** Chromium's; others have none. */
type Battery = EventTarget & { readonly charging: boolean };
type BatteryNavigator = { readonly getBattery?: () => Promise<Battery> };

/** A timer that is this late was stopped: the machine slept, and every connection is in doubt. */
const SLEPT_MS = 20_000;
const LOOK_MS = 5000;

export function watchSituation({ onChange, onNetwork }: SituationPorts): void {
  let situation: Situation = { pluggedIn: null, frozen: false };
  const become = (change: Partial<Situation>): void => {
    situation = { ...situation, ...change };
    onChange(situation);
  };
  document.addEventListener("freeze", () => become({ frozen: true }));
  document.addEventListener("resume", () => become({ frozen: false }));
  addEventListener("offline", () => onNetwork("this machine went offline"));
  addEventListener("online", () => onNetwork("this machine is online again"));
  let lookedMs = Date.now();
  setInterval(() => {
    const nowMs = Date.now();
    // A hidden page's timers may be a minute late without any sleep.
    if (!document.hidden && nowMs - lookedMs > LOOK_MS + SLEPT_MS) onNetwork("this machine slept");
    lookedMs = nowMs;
  }, LOOK_MS);
  void watchBattery((pluggedIn) => become({ pluggedIn }));
}

async function watchBattery(onChange: (pluggedIn: boolean) => void): Promise<void> {
  // Where it is not there, or not allowed, nothing is known.
  const battery = await (navigator as BatteryNavigator).getBattery?.().catch(() => null);
  if (!battery) return;
  battery.addEventListener("chargingchange", () => onChange(battery.charging));
  onChange(battery.charging);
}

export const canStayAwake = (): boolean => "wakeLock" in navigator;

/** Keeps the screen on while it is wanted and the page is visible. */
export function createAwakeness(): { readonly want: (wanted: boolean) => void } {
  let wanted = false;
  let held: Promise<WakeLockSentinel | null> | null = null;
  const settle = (): void => {
    if (!canStayAwake()) return;
    if (wanted && !document.hidden) held ??= navigator.wakeLock.request("screen").catch(() => null);
    else if (held !== null) {
      void held.then((sentinel) => sentinel?.release());
      held = null;
    }
  };
  document.addEventListener("visibilitychange", settle);
  return {
    want: (next) => {
      if (next === wanted) return;
      wanted = next;
      settle();
    },
  };
}
