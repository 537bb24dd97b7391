/** @file What a browser downloads for the compiled step, as Vite builds it. */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build, type Rollup } from "vite";
import { expect, test } from "vitest";

/** Gzipped. */
const MOST_BYTES = 60_000;

async function chunksOf(entry: string): Promise<Rollup.OutputChunk[]> {
  const built = await build({
    configFile: false,
    logLevel: "error",
    build: {
      write: false,
      target: "es2022",
      rolldownOptions: { input: join(import.meta.dirname, "../../..", entry), preserveEntrySignatures: "strict" },
    },
  });
  if (Array.isArray(built) || !("output" in built)) throw new Error("Vite built something else");
  return built.output.filter((file) => file.type === "chunk");
}

/** What is loaded with the entry, not what it may ask for later. */
function loadedAtOnce(chunks: readonly Rollup.OutputChunk[]): Rollup.OutputChunk[] {
  const wanted = new Set(chunks.filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName));
  for (const name of wanted) {
    for (const imported of chunks.find(({ fileName }) => fileName === name)?.imports ?? []) wanted.add(imported);
  }
  return chunks.filter(({ fileName }) => wanted.has(fileName));
}

const modulesOf = (chunks: readonly Rollup.OutputChunk[]) => chunks.flatMap(({ moduleIds }) => moduleIds);

test("the compiled engine, all that it needs included, has at most 60 kB gzipped and no tfjs in it", async () => {
  const chunks = await chunksOf("worker-browser/backends/compiled.ts");
  const loaded = loadedAtOnce(chunks);
  const bytes = loaded.reduce((sum, { code }) => sum + gzipSync(code).length, 0);
  console.log(`the compiled engine: ${bytes} bytes gzipped in ${loaded.length} chunk(s)`);
  expect(modulesOf(loaded).filter((id) => id.includes("@tensorflow"))).toEqual([]);
  expect(modulesOf(loaded).some((id) => id.endsWith("/wgsl/plan.ts"))).toBe(true);
  // What is loaded only when it is needed does have it.
  expect(modulesOf(chunks).some((id) => id.includes("@tensorflow"))).toBe(true);
  expect(bytes).toBeLessThanOrEqual(MOST_BYTES);
});

test("the compute thread loads tfjs only with the backends that need it", async () => {
  const loaded = loadedAtOnce(await chunksOf("worker-browser/compute.ts"));
  console.log(`the compute thread: ${loaded.reduce((sum, { code }) => sum + gzipSync(code).length, 0)} bytes gzipped`);
  expect(modulesOf(loaded).filter((id) => id.includes("@tensorflow"))).toEqual([]);
});
