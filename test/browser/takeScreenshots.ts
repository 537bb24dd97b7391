/** @file `npm run screenshots`: writes the pictures of the pages to docs/img/. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { launchChromium } from "../support/chromium.ts";
import { servePages } from "../support/pages.ts";
import { pictures, takePicture } from "./volunteer/screenshots.ts";

const folder = join(import.meta.dirname, "../../docs/img");

const pages = await servePages();
const browser = await launchChromium();
try {
  for (const picture of pictures) {
    const png = await takePicture(browser, pages.url, picture);
    writeFileSync(join(folder, `${picture.name}.png`), png);
    process.stdout.write(`docs/img/${picture.name}.png  ${Math.round(png.length / 1024)} kB\n`);
  }
} finally {
  await browser.close();
  await pages.close();
}
