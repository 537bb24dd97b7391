/** @file docs/observability.md, the dashboard and the alert rules speak of the metrics that there are. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createMetrics } from "../../coordinator/observe/metrics.ts";

type Metric = { readonly name: string; readonly type: string; readonly labelNames: readonly string[] };

// The registry keeps label names to itself until a label is used; the metrics themselves know.
const metrics = Object.values(createMetrics()).flatMap((value): Metric[] => {
  if (!("name" in value && "labelNames" in value)) return [];
  const { name, labelNames } = value as unknown as { name: string; labelNames: string[] };
  return [{ name, labelNames, type: value.constructor.name.toLowerCase() }];
});
const names = new Set(metrics.map(({ name }) => name));

/** For sorting. */
function byName(a: { name?: string | undefined }, b: { name?: string | undefined }): number {
  return (a.name ?? "").localeCompare(b.name ?? "");
}

const hasPromtool = ((): boolean => {
  try {
    execFileSync("promtool", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();
const noPromtool = "no promtool (Debian: apt-get install prometheus)";
if (!hasPromtool && process.env["CI"] === "true") throw new Error(noPromtool);

test("the page has a row for every metric, with its type and labels, and for no other", () => {
  const page = readFileSync("docs/observability.md", "utf8");
  const rows = [...page.matchAll(/^\| `(manyhands_\w+)` +\| (\w+) +\| ([^|]*)\|/gm)].map(([, name, type, labels]) => ({
    name,
    type,
    labelNames: [...(labels ?? "").matchAll(/`(\w+)`/g)].map(([, label]) => label),
  }));
  expect(metrics.length).toBeGreaterThan(12);
  expect(rows.sort(byName)).toEqual([...metrics].sort(byName));
});

test.each(["grafana/dashboards/manyhands.json", "alerts.yml"])("%s asks for metrics that there are", (file) => {
  const used = readFileSync(`deploy/observability/${file}`, "utf8").match(/manyhands_\w+/g) ?? [];
  expect(used.length).toBeGreaterThan(5);
  expect(used.filter((name) => !names.has(name.replace(/_(bucket|sum|count)$/, "")))).toEqual([]);
});

test("the dashboard's queries and the alert rules are PromQL, and the rules fire when they should", (context) => {
  context.skip(!hasPromtool, noPromtool);
  const options = { cwd: "deploy/observability", encoding: "utf8", stdio: "pipe" } as const;
  execFileSync("promtool", ["check", "config", "prometheus.yml"], options);
  execFileSync("promtool", ["test", "rules", "alerts.test.yml"], options);
  const dashboard = JSON.parse(readFileSync("deploy/observability/grafana/dashboards/manyhands.json", "utf8")) as {
    panels: { targets: { expr: string }[] }[];
  };
  const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const rules = queries.map((expr, index) => ({
    record: `query_${index}`,
    expr: expr.replaceAll("$__rate_interval", "1m"),
  }));
  const dir = mkdtempSync(join(tmpdir(), "manyhands-queries-"));
  try {
    // YAML takes JSON.
    writeFileSync(join(dir, "queries.yml"), JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    execFileSync("promtool", ["check", "rules", join(dir, "queries.yml")], options);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
