/** @file The page's colours where a canvas needs them: read from the style sheet, again when light turns to dark. */
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

export type Theme = {
  readonly dark: boolean;
  readonly ink: string;
  readonly soft: string;
  readonly line: string;
  readonly accent: string;
  readonly blue: string;
  readonly violet: string;
  readonly good: string;
};

const dark = matchMedia("(prefers-color-scheme: dark)");

export const theme: Signal<Theme> = signal(read());

dark.addEventListener("change", () => {
  theme.value = read();
});

function read(): Theme {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const names = ["ink", "soft", "line", "accent", "blue", "violet", "good"] as const;
  const colours = Object.fromEntries(names.map((name) => [name, colour(name)])) as Omit<Theme, "dark">;
  return { dark: dark.matches, ...colours };
}
