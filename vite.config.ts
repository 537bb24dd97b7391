import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";
import type { Plugin } from "vite";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Below it a gzipped copy saves less than its own headers. */
const MIN_GZIPPED_BYTES = 1024;

/**
 * A gzipped copy beside every file, once, so that serving it takes no computing. Of the files as they were written: until then
 * Vite itself still puts in what dynamic imports load first.
 */
const gzippedCopies: Plugin = {
  name: "gzipped copies",
  writeBundle({ dir = "" }, bundle) {
    for (const name of Object.keys(bundle)) {
      const content = readFileSync(join(dir, name));
      if (content.length >= MIN_GZIPPED_BYTES) writeFileSync(join(dir, `${name}.gz`), gzipSync(content));
    }
  },
};

/** The pages that the coordinator serves: plain files, nothing fetched from elsewhere. Built by worker-browser/build.ts. */
export default defineConfig({
  root: folder("worker-browser"),
  // Relative, so that a reverse proxy may serve the pages below any path.
  base: "./",
  publicDir: false,
  plugins: [gzippedCopies],
  cacheDir: folder("node_modules/.vite"),
  build: {
    outDir: folder("dist/pages"),
    emptyOutDir: true,
    // Module workers and WebGPU are newer than anything that would have to be compiled away.
    target: "es2022",
    // tfjs backends are large, loaded one at a time, and only after somebody joined.
    chunkSizeWarningLimit: 2000,
    assetsInlineLimit: 0,
    rolldownOptions: {
      input: {
        index: folder("worker-browser/index.html"),
        dashboard: folder("worker-browser/dashboard.html"),
        playground: folder("worker-browser/playground.html"),
      },
    },
  },
  worker: { format: "es" },
});
