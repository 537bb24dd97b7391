/** @file The operator's page at fixed data, in a real Chromium, beside the pictures in docs/img. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { difference, LOOKS_THE_SAME } from "../../support/pictures.ts";
import { type ServedPages, servePages } from "../../support/pages.ts";
import { dashboardPictures, takeDashboardPicture } from "./screenshots.ts";

let pages: ServedPages;
let browser: Browser;

beforeAll(async () => {
  if (!hasChromium) return;
  pages = await servePages();
  browser = await launchChromium({ webgpu: false });
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  await pages.close();
});

browserTest("[screenshots] the dashboard looks as in docs/img", async () => {
  for (const picture of dashboardPictures) {
    expect(difference(picture.name, await takeDashboardPicture(browser, pages.url, picture)), picture.name).toBeLessThan(LOOKS_THE_SAME); // prettier-ignore
  }
});
