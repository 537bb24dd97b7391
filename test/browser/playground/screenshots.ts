/** @file The pictures of the playground: of a real run, whatever its model has learnt; `npm run screenshots -- --url URL` takes them. */
import type { Browser } from "playwright-core";

export const playgroundPictures = [
  { name: "playground-light", width: 1100, height: 2100, colorScheme: "light" },
  { name: "playground-dark", width: 1100, height: 2100, colorScheme: "dark" },
  { name: "playground-phone-light", width: 390, height: 2400, colorScheme: "light" },
  { name: "playground-phone-dark", width: 390, height: 2400, colorScheme: "dark" },
] as const;

/** PNG bytes, after it wrote and looked at what it wrote. */
export async function takePlaygroundPicture(
  browser: Browser,
  url: string,
  { width, height, colorScheme }: (typeof playgroundPictures)[number],
): Promise<Buffer> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce", locale: "en-GB" }); // prettier-ignore
  try {
    const page = await context.newPage();
    await page.goto(`${url}/playground`);
    await page.getByLabel("Prompt").fill("My fellow citizens of the United");
    await page.getByRole("button", { name: "Write", exact: true }).click();
    await page.locator(".side").nth(1).waitFor({ timeout: 120_000 });
    await page.locator(".token").nth(9).hover();
    await page.locator(".side").nth(1).locator(".head").nth(9).click();
    await page.getByLabel("Token or word").fill("people");
    await page.getByRole("button", { name: "Find" }).first().click();
    for (const [name, word] of Object.entries({ a: "man", b: "men", c: "nation" })) await page.getByLabel(name, { exact: true }).fill(word); // prettier-ignore
    await page.getByRole("button", { name: "Find" }).last().click();
    await page.locator("caption").nth(1).waitFor();
    await page.evaluate(() => scrollTo(0, 0));
    return await page.screenshot();
  } finally {
    await context.close();
  }
}
