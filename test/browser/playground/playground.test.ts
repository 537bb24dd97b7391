/** @file See the model, in a real Chromium on a real coordinator's snapshots: what it shows is what the engine computes. */
import "@tensorflow/tfjs-backend-cpu";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { readParams } from "../../../shared/codec/paramsFile.ts";
import { readSafetensors } from "../../../shared/codec/safetensors.ts";
import { createEagerEngine, type EagerEngine } from "../../../shared/engine/eager.ts";
import { generateText } from "../../../shared/engine/generate.ts";
import { gptTensors } from "../../../shared/model/gptTensors.ts";
import { analogy, nearestTokens } from "../../../shared/model/neighbours.ts";
import { parseModelSpec } from "../../../shared/model/parseSpec.ts";
import type { ModelSpec } from "../../../shared/model/spec.ts";
import { layoutOf, type ParamLayout } from "../../../shared/numerics/layout.ts";
import type { Tokenizer } from "../../../shared/tokenizer/tokenizer.ts";
import { readTokenizerJson } from "../../../shared/tokenizer/tokenizerJson.ts";
import type { Checkpoint, Checkpoints } from "../../../shared/wire/dashboard.ts";
import { percent } from "../../../worker-browser/pages/format.ts";
import { headOf, strongest } from "../../../worker-browser/playground/headSummary.ts";
import { visible } from "../../../worker-browser/playground/token.ts";
import { violations } from "../../support/axe.ts";
import { browserTest, hasChromium, launchChromium } from "../../support/chromium.ts";
import { smallCorpus, smallRun, startCoordinator, type CoordinatorProcess } from "../../support/coordinatorProcess.ts";

/** In characters that occur in the small corpus. */
const PROMPT = "the people of the ";

type Loaded = { spec: ModelSpec; layout: ParamLayout; params: Float32Array; engine: EagerEngine };

let dir: string;
let coordinator: CoordinatorProcess;
let browser: Browser;
let context: BrowserContext;
let errors: string[];
let checkpoints: readonly Checkpoint[];
let tokenizer: Tokenizer;

beforeAll(async () => {
  if (!hasChromium) return;
  dir = mkdtempSync(join(tmpdir(), "manyhands-playground-"));
  const flags = ["--run", "seen", "--steps", "60", "--snapshot-every", "10", "--workers", "1", "--stay"];
  coordinator = await startCoordinator([...smallRun(dir, smallCorpus(dir)), ...flags]);
  await coordinator.until(({ version }) => version === 60);
  const answer = (await (await fetch(`${coordinator.url}/dashboard/checkpoints`)).json()) as Checkpoints;
  ({ checkpoints } = answer);
  const file = await fetch(`${coordinator.url}/${answer.tokenizerPath}`);
  tokenizer = readTokenizerJson(await file.json());
  browser = await launchChromium({ webgpu: false });
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  coordinator.child.kill("SIGTERM");
  await coordinator.exit;
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  if (!hasChromium) return;
  errors = [];
  context = await browser.newContext({ locale: "en-GB" });
  context.on("weberror", (error) => errors.push(String(error.error())));
  context.on("console", (message) => message.type() === "error" && errors.push(message.text()));
});

afterEach(async () => {
  if (!hasChromium) return;
  await context.close();
  expect(errors).toEqual([]);
});

/** The same version, computed here. */
async function load({ path }: Checkpoint): Promise<Loaded> {
  const bytes = new Uint8Array(await (await fetch(`${coordinator.url}/${path}`)).arrayBuffer());
  const spec = parseModelSpec(readSafetensors(bytes).metadata["model"]);
  const layout = layoutOf(gptTensors(spec));
  const params = new Float32Array(layout.length);
  readParams(bytes, layout, params);
  const engine = await createEagerEngine({ spec, layout, backend: "cpu" });
  await engine.load(params);
  return { spec, layout, params, engine };
}

/** On plain JavaScript, so that every digit can be compared. */
async function open(query = "?backend=cpu"): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`${coordinator.url}/playground${query}`);
  await page.getByText(`step ${checkpoints.at(-1)!.version} (newest)`).waitFor({ timeout: 60_000 });
  return page;
}

async function write(page: Page, prompt: string, settings: Readonly<Record<string, number>>): Promise<string> {
  await page.getByLabel("Prompt").fill(prompt);
  for (const [name, value] of Object.entries(settings)) await page.locator(`input[name=${name}]`).fill(String(value));
  await page.getByRole("button", { name: "Write", exact: true }).click();
  await page.locator(".token").nth((settings["tokens"] ?? 1) - 1).waitFor({ timeout: 60_000 }); // prettier-ignore
  await page.getByRole("button", { name: "Write", exact: true }).waitFor();
  return (await page.locator(".token").allTextContents()).join("");
}

browserTest("it writes what the engine writes, the same text for the same seed", async () => {
  const page = await open();
  const settings = { temperature: 0.9, topK: 12, topP: 0.9, seed: 7, tokens: 30 };
  const found = await write(page, PROMPT, settings);
  const { spec, engine } = await load(checkpoints.at(-1)!);
  let expected = "";
  for await (const piece of generateText({ engine, spec, tokenizer, prompt: PROMPT, ...settings })) expected += piece;
  expect(found).toBe(expected);
  expect(await write(page, PROMPT, settings)).toBe(expected);
  expect(await write(page, PROMPT, { ...settings, seed: 8 })).not.toBe(expected);
  expect(await page.locator("#computed-by").textContent()).toContain("Computed by cpu");
});

browserTest("a setting can be typed key by key, a part of a number on the way", async () => {
  const page = await open();
  const temperature = page.locator("input[name=temperature]");
  await temperature.fill("");
  await temperature.pressSequentially("0.05");
  expect(await temperature.inputValue()).toBe("0.05");
});

browserTest("a token tells what else was thought of, with the model's own probabilities, by keyboard too", async () => {
  const page = await open();
  await write(page, PROMPT, { temperature: 0, topK: 5, topP: 1, seed: 1, tokens: 6 });
  const { spec, engine } = await load(checkpoints.at(-1)!);
  const ids = Array.from(tokenizer.encode(PROMPT)).slice(-spec.context);
  const inputs = new Int32Array(spec.context);
  inputs.set(ids);
  const logits = (await engine.logits(inputs, 1)).slice((ids.length - 1) * spec.vocabulary, ids.length * spec.vocabulary); // prettier-ignore
  const largest = Math.max(...logits);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  const expected = Array.from(logits, (logit, id) => ({ p: Math.exp(logit - largest) / total, id }))
    .sort((a, b) => b.p - a.p)
    .slice(0, 10)
    .map(({ p, id }) => `${visible(new TextDecoder().decode(tokenizer.bytesOf(id)))}${percent(p)}`);

  await page.locator(".token").first().hover();
  expect(await page.locator(".alternatives tbody tr").allTextContents()).toEqual(expected);
  await page.locator(".token").first().focus();
  await page.keyboard.press("ArrowRight");
  expect(await page.locator(".token").nth(1).getAttribute("aria-pressed")).toBe("true");
  expect(await page.locator(".alternatives tr.chosen").count()).toBe(1);
});

browserTest("attention is the engine's, in every head, in an early and in a late version", async () => {
  const page = await open();
  const text = "the people of us";
  await page.getByLabel("Text to look at").fill(text);
  await page.getByRole("button", { name: "Look", exact: true }).click();
  await page.locator(".side").nth(1).waitFor({ timeout: 60_000 });
  const versions = [checkpoints[0]!, checkpoints.at(-1)!];
  expect(await page.locator(".side").evaluateAll((sides) => sides.map((side) => side.getAttribute("data-version")))).toEqual(versions.map(({ version }) => String(version))); // prettier-ignore
  for (const table of await page.getByText("The same as a table").all()) await table.click();

  const shown: string[] = [];
  for (const [index, version] of versions.entries()) {
    const { spec, engine } = await load(version);
    const ids = Array.from(tokenizer.encode(text)).slice(-spec.context);
    const inputs = new Int32Array(spec.context);
    inputs.set(ids);
    const labels = ids.map((id) => new TextDecoder().decode(tokenizer.bytesOf(id)));
    const maps = { labels, layers: spec.layers, heads: spec.heads, values: await engine.attention(inputs, ids.length) };
    for (let head = 0; head < spec.heads; head++) {
      await page.getByRole("button", { name: new RegExp(`^Layer 1, head ${head + 1}:`) }).first().click(); // prettier-ignore
      const attention = headOf(maps, 0, head);
      const rows = await page.locator(".side").nth(index).locator("tbody tr").allTextContents();
      const expected = labels.map((label, query) => {
        const cells = strongest(attention, query, 3).map(({ key, p }) => `${key + 1} ${visible(labels[key]!)} ${percent(p)}`); // prettier-ignore
        return `${query + 1} ${visible(label)}${cells.join("")}`;
      });
      expect(rows).toEqual(expected);
      shown.push(rows.join());
    }
    // Each row of every head's map is a distribution.
    const pixels = page.locator(".side").nth(index).locator(".head canvas");
    expect(await pixels.count()).toBe(spec.layers * spec.heads);
  }
  expect(new Set(shown).size, "heads and versions differ").toBe(shown.length);
  const lines = page.locator(".side").first().locator(".lines");
  const all = await lines.locator("line").count();
  await lines.locator(".query").last().focus();
  expect(await lines.locator("line").count()).toBeLessThan(all);
  await page.keyboard.press("ArrowUp");
  expect(await lines.locator(".query.chosen").count()).toBe(1);
});

browserTest("neighbours and analogies are those of the embedding", async () => {
  const page = await open();
  const { spec, layout, params } = await load(checkpoints.at(-1)!);
  const slot = layout.slots.find(({ name }) => name === "wte.weight")!;
  const embedding = { values: params.subarray(slot.offset, slot.offset + slot.size), width: spec.width };
  const rows = (found: readonly { token: number; similarity: number }[]): string[] => found.map(({ token, similarity }) => `${visible(new TextDecoder().decode(tokenizer.bytesOf(token)))}${similarity.toFixed(3)}`); // prettier-ignore
  const [a, b, c] = Array.from(tokenizer.encode("abe")) as [number, number, number];

  const near = page.locator("section[aria-labelledby=map] .two-sides > div").first();
  await near.getByLabel("Token or word").fill("e");
  await near.getByRole("button", { name: "Find" }).click();
  await near.locator("tbody tr").first().waitFor({ timeout: 60_000 });
  expect(await near.locator("tbody tr").allTextContents()).toEqual(rows(nearestTokens(embedding, c, 12)));

  const like = page.locator("section[aria-labelledby=map] .two-sides > div").last();
  for (const letter of ["a", "b", "c"]) await like.getByLabel(letter, { exact: true }).fill(letter === "c" ? "e" : letter); // prettier-ignore
  await like.getByRole("button", { name: "Find" }).click();
  await like.locator("tbody tr").first().waitFor();
  expect(await like.locator("caption").textContent()).toBe("a is to b as e is to");
  expect(await like.locator("tbody tr").allTextContents()).toEqual(rows(analogy(embedding, { a, b, c }, 12)));
});

browserTest("another version can be chosen, writing can be stopped, and what cannot be done is said", async () => {
  const page = await open();
  await page.getByRole("slider").fill("0");
  await page.getByText(`step ${checkpoints[0]!.version}`, { exact: true }).first().waitFor();
  await page.getByLabel("Prompt").fill("日本");
  await page.getByRole("button", { name: "Write", exact: true }).click();
  await page.getByText("U+65E5").waitFor({ timeout: 60_000 });

  await page.getByLabel("Prompt").fill(PROMPT);
  await page.locator("input[name=tokens]").fill("400");
  await page.getByRole("button", { name: "Write", exact: true }).click();
  await page.locator(".token").nth(2).waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Write", exact: true }).waitFor();
  expect(await page.locator(".token").count()).toBeLessThan(400);
  for (const name of ["Zero-shot", "One-shot", "Few-shot"]) {
    await page.getByRole("button", { name }).click();
    expect(((await page.getByLabel("Prompt").inputValue()).match(/Opposite:/g) ?? []).length).toBe(
      { "Zero-shot": 1, "One-shot": 2, "Few-shot": 4 }[name],
    );
  }
});

browserTest("[I7] what computes is said, and each backend that is not used is named with its reason", async () => {
  await context.route("**/*.wasm", (route) => route.abort());
  const page = await open("");
  await page.getByLabel("Prompt").fill(PROMPT);
  await page.locator("input[name=tokens]").fill("2");
  await page.getByRole("button", { name: "Write", exact: true }).click();
  await page.locator("#computed-by").waitFor({ timeout: 120_000 });
  expect(await page.locator(".state").textContent()).toMatch(/wasm is not used: .+/);
  // The browser's own words on the request that was cut off.
  errors.length = 0;
});

browserTest(
  "on WebGPU text is the compiled step's and attention tfjs', over one θ, and both are the engine's",
  async () => {
    const gpu = await launchChromium();
    try {
      context = await gpu.newContext({ locale: "en-GB" });
      const page = await open("?backend=webgpu");
      const settings = { temperature: 0.9, topK: 12, topP: 0.9, seed: 7, tokens: 30 };
      const { spec, engine } = await load(checkpoints.at(-1)!);
      let expected = "";
      for await (const piece of generateText({ engine, spec, tokenizer, prompt: PROMPT, ...settings }))
        expected += piece;
      expect(await write(page, PROMPT, settings)).toBe(expected);
      expect(await page.locator("#computed-by").textContent()).toContain("webgpu, text by its compiled step");

      const text = "the people of us";
      await page.getByLabel("Text to look at").fill(text);
      await page.getByRole("button", { name: "Look", exact: true }).click();
      await page.locator(".side").nth(1).waitFor({ timeout: 120_000 });
      await page.getByText("The same as a table").first().click();
      await page.getByText("The same as a table").last().click();
      // Two versions, one after the other in the same place on the device.
      for (const [side, version] of [checkpoints[0]!, checkpoints.at(-1)!].entries()) {
        const { engine } = await load(version);
        const ids = Array.from(tokenizer.encode(text)).slice(-spec.context);
        const inputs = new Int32Array(spec.context);
        inputs.set(ids);
        const labels = ids.map((id) => new TextDecoder().decode(tokenizer.bytesOf(id)));
        const maps = { labels, layers: spec.layers, heads: spec.heads, values: await engine.attention(inputs, ids.length) }; // prettier-ignore
        await page.getByRole("button", { name: /^Layer 1, head 1:/ }).first().click(); // prettier-ignore
        const rows = await page.locator(".side").nth(side).locator("tbody tr").allTextContents();
        const largest = (query: number): string => strongest(headOf(maps, 0, 0), query, 1).map(({ key, p }) => `${key + 1} ${visible(labels[key]!)} ${percent(p)}`).join(""); // prettier-ignore
        for (const [query, row] of rows.entries()) expect(row).toContain(largest(query));
      }
      // The text is still that of the newest version.
      expect(await write(page, PROMPT, settings)).toBe(expected);
    } finally {
      await gpu.close();
    }
  },
);

browserTest(
  "[I7] a device that goes away ends the task; the next one gets another device, and tfjs, and says why",
  async () => {
    const gpu = await launchChromium();
    try {
      context = await gpu.newContext({ locale: "en-GB" });
      const page = await open("?backend=webgpu");
      const settings = { temperature: 0.9, topK: 12, topP: 0.9, seed: 7, tokens: 10 };
      const expected = await write(page, PROMPT, settings);
      await page.locator(".side").nth(1).waitFor({ timeout: 120_000 });
      await page.workers()[0]!.evaluate(() => {
        const { prototype } = GPUDevice;
        const create = Object.getOwnPropertyDescriptor(prototype, "createCommandEncoder")!;
        prototype.createCommandEncoder = function (...given) {
          Object.defineProperty(prototype, "createCommandEncoder", create);
          this.destroy();
          return this.createCommandEncoder(...given);
        };
      });
      await page.getByRole("button", { name: "Write", exact: true }).click();
      await page.locator("p.bad", { hasText: /./ }).first().waitFor({ timeout: 60_000 });
      expect(await write(page, PROMPT, settings)).toBe(expected);
      expect(await page.locator(".state").textContent()).toMatch(/the compiled step is not used: the graphics device was lost/); // prettier-ignore
      // Chromium's own words on the work that the device did not live to do.
      errors.length = 0;
    } finally {
      await gpu.close();
    }
  },
);

browserTest(
  "[I7] where the compiled step cannot be used, tfjs writes the same text, and the reason is said",
  async () => {
    const gpu = await launchChromium();
    try {
      context = await gpu.newContext({ locale: "en-GB" });
      await context.route("**/compiledWriter-*.js", (route) => route.abort());
      const page = await open("?backend=webgpu");
      const settings = { temperature: 0.9, topK: 12, topP: 0.9, seed: 7, tokens: 10 };
      const { spec, engine } = await load(checkpoints.at(-1)!);
      let expected = "";
      for await (const piece of generateText({ engine, spec, tokenizer, prompt: PROMPT, ...settings }))
        expected += piece;
      expect(await write(page, PROMPT, settings)).toBe(expected);
      expect(await page.locator(".state").textContent()).toMatch(/Text is computed op by op; the compiled step is not used: .+/); // prettier-ignore
      expect(await page.locator("#computed-by").textContent()).not.toContain("compiled");
    } finally {
      await gpu.close();
    }
  },
);

browserTest(
  "[axe] no violation, in light and dark; nothing is wider than a narrow phone; Chinese is spoken",
  async () => {
    const page = await open();
    await write(page, PROMPT, { tokens: 12 });
    await page.locator(".side").nth(1).waitFor({ timeout: 60_000 });
    await page.locator(".token").nth(3).hover();
    expect(await violations(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await violations(page, ["color-contrast"])).toEqual([]);
    await page.setViewportSize({ width: 320, height: 640 });
    await expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
    await page.getByLabel("Language").selectOption("zh");
    await page.getByRole("heading", { name: "注意力" }).waitFor();
    expect(await violations(page)).toEqual([]);
  },
);
