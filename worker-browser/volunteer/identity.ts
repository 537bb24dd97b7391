/** @file Who this browser is to the coordinator, kept between visits, so that a reload is the same worker. */
import * as z from "zod/mini";
import type { SessionState } from "../../shared/worker/session.ts";

type Identity = NonNullable<SessionState["identity"]>;

const KEY = "manyhands identity";

const schema = z.object({ worker: z.string(), secret: z.string() });

/** Null on the first visit, and where the browser keeps nothing for us. */
export function recallIdentity(): Identity | null {
  try {
    return z.parse(schema, JSON.parse(localStorage.getItem(KEY) ?? "null"));
  } catch {
    // Absent, blocked, or written by something else: this browser introduces itself anew.
    return null;
  }
}

export function rememberIdentity(identity: Identity): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(identity));
  } catch (error) {
    console.warn(`the identity is kept only until this tab closes: ${String(error)}`);
  }
}
