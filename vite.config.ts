import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The pages that the coordinator serves: plain files, nothing fetched from elsewhere. Built by worker-browser/build.ts. */
export default defineConfig({
  root: folder("worker-browser"),
  // Relative, so that a reverse proxy may serve the pages below any path.
  base: "./",
  publicDir: false,
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
