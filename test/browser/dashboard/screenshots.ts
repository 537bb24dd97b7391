/** @file The pictures of the dashboard, at fixed data; `npm run screenshots` makes them anew. */
import type { Browser } from "playwright-core";
import { randomNormal, streamKey } from "../../../shared/numerics/rng.ts";
import type { Checkpoints, Curves, LiveEvents, ScalingPoint } from "../../../shared/wire/dashboard.ts";
import type { Status, WorkerStatus } from "../../../shared/wire/status.ts";

export type DashboardPicture = {
  readonly name: string;
  readonly viewport: { readonly width: number; readonly height: number };
  readonly colorScheme: "light" | "dark";
};

export const dashboardPictures: readonly DashboardPicture[] = [
  { name: "dashboard-light", viewport: { width: 1360, height: 1800 }, colorScheme: "light" },
  { name: "dashboard-dark", viewport: { width: 1360, height: 1800 }, colorScheme: "dark" },
  { name: "dashboard-phone-light", viewport: { width: 390, height: 2000 }, colorScheme: "light" },
  { name: "dashboard-phone-dark", viewport: { width: 390, height: 2000 }, colorScheme: "dark" },
];

const NOW_MS = Date.UTC(2026, 10, 22, 9, 30, 12);
const POINTS = 500;
const SPAN = 4;
const VERSION = POINTS * SPAN;

/** PNG bytes. */
export async function takeDashboardPicture(browser: Browser, url: string, picture: DashboardPicture): Promise<Buffer> {
  const { viewport, colorScheme } = picture;
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", locale: "en-GB", timezoneId: "UTC" }); // prettier-ignore
  try {
    await context.clock.setFixedTime(NOW_MS);
    await context.route("**/dashboard/curves*", (route) => route.fulfill({ json: curves }));
    await context.route("**/dashboard/checkpoints", (route) => route.fulfill({ json: checkpoints }));
    // A stream that ends would be told as a lost connection: these are told by a source that does not.
    await context.addInitScript((messages) => {
      class ScriptedSource extends EventTarget {
        constructor() {
          super();
          setTimeout(() => {
            for (const { name, data } of messages) this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) })); // prettier-ignore
          });
        }
        close(): void {}
      }
      Object.assign(globalThis, { EventSource: ScriptedSource });
    }, messages);
    const page = await context.newPage();
    await page.goto(`${url}dashboard.html`);
    await page.locator("tr[data-worker]").first().waitFor();
    await page.locator("figure canvas").nth(6).waitFor();
    await page.locator("a[download]").first().waitFor();
    // Charts are painted one a frame.
    await page.waitForTimeout(500);
    return await page.screenshot();
  } finally {
    await context.close();
  }
}

const column = (value: (version: number, noise: number) => number, stream = 0): number[] =>
  Array.from({ length: POINTS }, (_, i) => value((i + 1) * SPAN, randomNormal(streamKey(7, stream), i)));

const workersAt = (version: number): number => (version < 500 ? 2 : version < 1200 ? 4 : version < 1640 ? 8 : 7);
const lossAt = (version: number): number => 1.55 + 5.4 * (1 + version / 18) ** -0.62;
const roundMsAt = (version: number): number => 1480 / workersAt(version) + 92;
const computeMsAt = (version: number): number => 1480 / workersAt(version);

const curves: Curves = {
  from: 1,
  to: VERSION,
  span: SPAN,
  newest: VERSION,
  version: column((version) => version),
  atMs: column((version) => NOW_MS - 400 - (VERSION - version) * 300),
  loss: column((version, noise) => lossAt(version) + 0.012 * noise, 1),
  lossMin: column((version, noise) => lossAt(version) - 0.03 - 0.02 * Math.abs(noise), 2),
  lossMax: column((version, noise) => lossAt(version) + 0.03 + 0.02 * Math.abs(noise), 3),
  gradientNorm: column((version, noise) => 0.7 + 1.4 / (1 + version / 40) + 0.03 * noise, 4),
  gradientNormMin: column((version, noise) => 0.62 + 1.4 / (1 + version / 40) - 0.03 * Math.abs(noise), 5),
  gradientNormMax: column((version, noise) => 0.8 + 1.4 / (1 + version / 40) + 0.06 * Math.abs(noise) + (version === 1264 ? 1.9 : 0), 6), // prettier-ignore
  learningRate: column(
    (version) => 2e-3 * Math.min(1, version / 100) * (0.55 + 0.45 * Math.cos((Math.PI * version) / 3000)),
  ),
  tokensPerSecond: column((version, noise) => (6144 / roundMsAt(version)) * 1000 * (1 + 0.03 * noise), 7),
  bytesInPerSecond: column((version, noise) => (workersAt(version) * 950_000 * 1000 * (1 + 0.02 * noise)) / roundMsAt(version), 8), // prettier-ignore
  bytesOutPerSecond: column((version, noise) => (workersAt(version) * 480_000 * 1000 * (1 + 0.02 * noise)) / roundMsAt(version), 9), // prettier-ignore
  roundMs: column((version, noise) => roundMsAt(version) * (1 + 0.03 * Math.abs(noise)), 10),
  computeMs: column((version) => computeMsAt(version)),
  commitMs: column(() => 18),
  workers: column((version) => workersAt(version)),
  evaluations: {
    version: Array.from({ length: 20 }, (_, i) => 100 * (i + 1)),
    loss: Array.from({ length: 20 }, (_, i) => lossAt(100 * (i + 1)) + 0.035 + 0.004 * i),
  },
};

const scaling: readonly ScalingPoint[] = [2, 4, 7, 8].map((workers) => ({
  workers,
  rounds: workers === 2 ? 500 : 400,
  tokens: 6144 * 400,
  roundMs: 400 * (1480 / workers + 92),
}));

const machines: readonly Partial<WorkerStatus>[] = [
  { name: "lab-03", backend: "onnx", kind: "node", tokensPerSecond: 4180, share: 0.24, leases: 2 },
  { name: "lab-01", backend: "onnx", kind: "node", tokensPerSecond: 4050, share: 0.23, leases: 2 },
  { name: "Mei's laptop", backend: "webgpu", tokensPerSecond: 3920, share: 0.19 },
  { name: "", backend: "webgpu", tokensPerSecond: 3610, share: 0.12 },
  { name: "reading room", backend: "webgl", tokensPerSecond: 2240, share: 0.11, fallbacks: [{ backend: "webgpu", reason: "the browser has no graphics adapter to give" }] }, // prettier-ignore
  { name: "old tablet", backend: "wasm", tokensPerSecond: 310, share: 0.02, leases: 0, waitingReason: "the smallest piece of work takes this device 2.6 s, the others finish the rest of the round in 180 ms" }, // prettier-ignore
  { name: "kiosk", backend: "wasm", tokensPerSecond: 640, share: 0.04, refused: 3 },
];

const status: Status = {
  run: "state-of-the-union",
  about: null,
  corpus: "a text",
  paused: {},
  hash: "00ff00ff00ff00ff",
  phase: "working",
  reason: "round 2001: 5 of 8 units trained by 7 workers",
  version: VERSION,
  steps: 3000,
  parameters: 926_848,
  tokens: 6144 * VERSION,
  tokensPerSecond: 18_950,
  trainLoss: lossAt(VERSION),
  validationLoss: lossAt(VERSION) + 0.1,
  learningRate: 8e-4,
  gradientNorm: 0.73,
  codec: "i8",
  strict: false,
  counts: {},
  refusals: {},
  workers: machines.map((machine, i) => ({
    worker: `7c1e0b2${i}-4f0a`,
    name: "",
    kind: "browser",
    state: "ready",
    backend: null,
    fallbacks: [],
    tokens: 1_000_000,
    tokensPerSecond: 0,
    share: 0,
    refused: 0,
    waitingReason: "",
    behind: 0,
    leases: 1,
    strikes: 0,
    device: machine.kind === "node" ? "Intel Core i5-9500, 6 cores" : "",
    ...machine,
  })),
};

const events = [
  ["left", "reading room (7c1e0b29-4f0a): the volunteer left"],
  ["joined", "old tablet (7c1e0b25-4f0a)"],
  ["stale-version", "7c1e0b26-4f0a: result for version 1985, this run is at 1986"],
  ["joined", "Mei's laptop (7c1e0b22-4f0a)"],
  ["not-finite", "7c1e0b26-4f0a: the gradient holds a value that is not finite"],
  ["already-done", "7c1e0b26-4f0a: units 4–4 were returned by somebody else first"],
] as const;

const messages: readonly { readonly name: keyof LiveEvents; readonly data: unknown }[] = [
  { name: "hello", data: { process: "p", startedMs: NOW_MS - 7_200_000, status, scaling, events: events.map(([code, text], i) => ({ id: i + 1, atMs: NOW_MS - (events.length - i) * 47_000, code, text })) } }, // prettier-ignore
];

const checkpoints: Checkpoints = {
  tokenizerPath: "corpus/x/tokenizer.json",
  checkpoints: [100, 200, 300, 600, 1100, 1900, 2000].map((version) => ({
    version,
    hash: (0x1234567890ab * (version + 1)).toString(16).padStart(16, "0").slice(-16),
    path: `snapshots/${version}.safetensors`,
    bytes: 3_709_928,
    validationLoss: lossAt(version) + 0.04,
    savedMs: version === 2000 ? null : NOW_MS - (VERSION - version) * 300,
  })),
};
