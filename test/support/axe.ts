/** @file What axe has to say of a page. */
import axe from "axe-core";
import type { Page } from "playwright-core";

/** Each violation with the elements it concerns; all rules unless some are named. */
export async function violations(page: Page, rules: readonly string[] | null = null): Promise<string[]> {
  await page.evaluate(axe.source);
  const found = await page.evaluate(
    (only) => (globalThis as unknown as { axe: typeof axe }).axe.run(only === null ? {} : { runOnly: [...only] }),
    rules,
  );
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`.slice(0, 500));
}
