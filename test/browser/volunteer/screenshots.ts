/** @file The pictures of the volunteer's page, at fixed data: docs/img/ keeps them, a test compares, `npm run screenshots` makes them anew. */
import type { Browser } from "playwright-core";
import type { SessionState } from "../../../shared/worker/session.ts";
import type { SessionToPage } from "../../../worker-browser/messages.ts";
import { answerBoard, answerCurves, answerStatus, scriptSession } from "../../support/pages.ts";
import { board, curve, fallenBack, status, usage, working } from "./states.ts";

const desktop = { width: 1100, height: 1620 };
const phone = { width: 390, height: 1420 };

type Picture = {
  readonly name: string;
  readonly viewport: { readonly width: number; readonly height: number };
  readonly colorScheme: "light" | "dark";
  readonly state: Partial<SessionState> | null;
  readonly messages?: readonly Exclude<SessionToPage, { type: "state" }>[];
};

export const pictures: readonly Picture[] = [
  { name: "volunteer-light", viewport: desktop, colorScheme: "light", state: working, messages: [usage] },
  { name: "volunteer-dark", viewport: desktop, colorScheme: "dark", state: fallenBack, messages: [usage] },
  { name: "volunteer-phone-light", viewport: phone, colorScheme: "light", state: null },
  { name: "volunteer-phone-dark", viewport: phone, colorScheme: "dark", state: working, messages: [usage] },
];

/** PNG bytes. */
export async function takePicture(browser: Browser, url: string, picture: Picture): Promise<Buffer> {
  const { viewport, colorScheme, state, messages = [] } = picture;
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", locale: "en-GB" });
  try {
    await answerStatus(context, status);
    await answerCurves(context, curve);
    await answerBoard(context, board);
    if (state !== null) await scriptSession(context, [state], messages);
    const page = await context.newPage();
    await page.goto(state === null ? url : `${url}?join`);
    await page.locator("#run-name", { hasText: status.run }).waitFor();
    if (state !== null) await page.locator("#data", { hasText: "MB" }).waitFor();
    await page.locator("canvas").waitFor();
    await page.locator("#board").waitFor();
    return await page.screenshot();
  } finally {
    await context.close();
  }
}
