import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const source = readFileSync("shared/wire/protocol.ts", "utf8");
const page = readFileSync("docs/protocol.md", "utf8");

test("every refusal code has a heading in docs/protocol.md, and every heading a code", () => {
  const union = /export type RefusalCode =([^;]*);/.exec(source)?.[1] ?? "";
  const codes = [...union.matchAll(/"([a-z-]+)"/g)].map(([, code]) => code);
  const headings = [...page.matchAll(/^### ([a-z-]+)$/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(10);
  expect(new Set(headings)).toEqual(new Set(codes));
  expect(headings).toHaveLength(codes.length);
});

test("every code says whether the connection is closed or goes on, and what the receiver does then", () => {
  const sections = page.split(/^### /m).slice(1);
  for (const section of sections) {
    const [code = "", ...lines] = section.split("\n");
    const text = lines.join(" ").toLowerCase();
    // What to do, in the imperative or of the worker, which does it by itself.
    expect(text, code).toMatch(/\b(try again|pull again|join again|update the side|start the worker|ask |load it|use another|open the|comes back|may come back|drop the result|nothing to do)/); // prettier-ignore
  }
  expect(sections.length).toBeGreaterThan(20);
});

test("the page names the protocol version in use", () => {
  const version = /PROTOCOL_VERSION = (\d+)/.exec(source)?.[1];
  expect(page).toContain(`Protocol version: ${version}.`);
});
