/**
 * @file `npm run screenshots`: writes the pictures of the pages to docs/img/. Those of the playground are of a real run: with
 * `-- --url http://127.0.0.1:8080` of the one that is served there, without it they stay as they are.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { launchChromium } from "../support/chromium.ts";
import { servePages } from "../support/pages.ts";
import { dashboardPictures, takeDashboardPicture } from "./dashboard/screenshots.ts";
import { playgroundPictures, takePlaygroundPicture } from "./playground/screenshots.ts";
import { pictures, takePicture } from "./volunteer/screenshots.ts";

const folder = join(import.meta.dirname, "../../docs/img");

const { values } = parseArgs({ options: { url: { type: "string" } } });
const pages = await servePages();
const browser = await launchChromium();
try {
  for (const picture of pictures) save(picture.name, await takePicture(browser, pages.url, picture));
  for (const picture of dashboardPictures) {
    save(picture.name, await takeDashboardPicture(browser, pages.url, picture));
  }
  if (values.url !== undefined) {
    for (const picture of playgroundPictures) {
      save(picture.name, await takePlaygroundPicture(browser, values.url, picture));
    }
  }
} finally {
  await browser.close();
  await pages.close();
}

function save(name: string, png: Buffer): void {
  writeFileSync(join(folder, `${name}.png`), png);
  process.stdout.write(`docs/img/${name}.png  ${Math.round(png.length / 1024)} kB\n`);
}
