/**
 * @file What the dashboard and the playground read over HTTP: curves, live events, and the versions of θ that can be
 * downloaded. Reading needs no token and changes nothing; every answer is bounded.
 */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { Hono } from "hono";
import * as z from "zod";
import type { SnapshotReference } from "../../shared/wire/protocol.ts";
import { CHECKPOINTS_PATH, CURVES_PATH, LIVE_PATH } from "../../shared/wire/dashboard.ts";
import type { Checkpoint, Checkpoints } from "../../shared/wire/dashboard.ts";
import { servePage } from "../edge/files.ts";
import type { History } from "../store/history.ts";
import type { Live } from "./live.ts";
import { SNAPSHOT_PATH } from "../optimizer/publish.ts";
import { listSnapshots } from "../store/snapshot.ts";

export type DashboardConfig = {
  readonly history: History;
  readonly live: Live;
  readonly snapshotDir: string;
  /** Offers θ as it is now, for who wants the newest. */
  readonly offerNewest: () => SnapshotReference;
  readonly parameterBytes: number;
  readonly tokenizerPath: string;
  readonly pagesDir: string;
  readonly nowMs: () => number;
};

/** Making θ a file costs a copy of it: strangers may ask for the newest this often between them. */
const OFFER_EVERY_MS = 10_000;

const MAX_POINTS = 2000;

const rangeSchema = z.object({
  from: z.coerce.number().int().min(1).default(1),
  to: z.coerce.number().int().min(0).default(Number.MAX_SAFE_INTEGER),
  points: z.coerce.number().int().min(1).max(MAX_POINTS).default(600),
});

export function dashboardRoutes(config: DashboardConfig): Hono {
  const { history, live, snapshotDir, tokenizerPath, pagesDir, nowMs } = config;
  const app = new Hono();
  let offered: { readonly reference: SnapshotReference; readonly atMs: number } | null = null;

  async function checkpoints(): Promise<Checkpoints> {
    if (offered === null || nowMs() - offered.atMs >= OFFER_EVERY_MS) {
      offered = { reference: config.offerNewest(), atMs: nowMs() };
    }
    const saved = await Promise.all(
      (await listSnapshots(snapshotDir)).map(async ({ version, hash, paramsPath }): Promise<Checkpoint | null> => {
        // A run removes old ones while this looks.
        const file = await stat(paramsPath).catch(() => null);
        if (file === null) return null;
        return { version, hash, ...at(version, basename(paramsPath)), bytes: file.size, savedMs: file.mtimeMs };
      }),
    );
    const known = saved.filter((checkpoint) => checkpoint !== null).sort((a, b) => a.version - b.version);
    const { version, hash, path } = offered.reference;
    if (!known.some((checkpoint) => checkpoint.version === version)) {
      known.push({ version, hash, ...at(version, basename(path)), bytes: config.parameterBytes, savedMs: null });
    }
    return { tokenizerPath: relative(tokenizerPath), checkpoints: known };
  }

  function at(version: number, file: string): Pick<Checkpoint, "path" | "validationLoss"> {
    return { path: relative(SNAPSHOT_PATH + file), validationLoss: history.validationLossAt(version) };
  }

  app.get("/dashboard", (context) => servePage(context, pagesDir, "dashboard.html", "no-cache"));
  app.get("/playground", (context) => servePage(context, pagesDir, "playground.html", "no-cache"));
  app.get(CURVES_PATH, (context) => {
    const range = rangeSchema.safeParse(context.req.query());
    if (!range.success) {
      const [issue] = range.error.issues;
      return context.text(`${issue?.path.join(".")}: ${issue?.message}\n`, 400);
    }
    return context.json(history.curves(range.data), 200, { "Cache-Control": "no-store" });
  });
  app.get(LIVE_PATH, (context) => {
    const stream = live.open();
    if (stream === null) return context.text("too many dashboards are open\n", 503, { "Retry-After": "10" });
    // A proxy that gathers bytes before it passes them on would make "live" a matter of minutes.
    const headers = { "Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no" };
    return new Response(stream, { headers });
  });
  app.get(CHECKPOINTS_PATH, async (context) => context.json(await checkpoints(), 200, { "Cache-Control": "no-store" }));
  return app;
}

/** Without the slash in front: a reverse proxy may serve all this below a path of its own. */
function relative(path: string): string {
  return path.replace(/^\//, "");
}
