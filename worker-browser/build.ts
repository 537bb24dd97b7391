/**
 * @file Builds the pages into dist/pages: `node worker-browser/build.ts`. A program of its own, because the coordinator, which
 * starts it, imports nothing from here. Silent when it works; one line on stderr and exit code 1 when it does not.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { build } from "vite";

/** Below it a gzipped copy saves less than its own headers. */
const MIN_GZIPPED_BYTES = 1024;

const outDir = join(import.meta.dirname, "../dist/pages");

try {
  await build({ configFile: `${import.meta.dirname}/../vite.config.ts`, logLevel: "silent" });
  await writeGzippedCopies(outDir);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  console.error(`the pages could not be built: ${oneLine(message)}`);
  process.exitCode = 1;
}

/** Beside each file that is text or code, once, so that serving it takes no computing. */
async function writeGzippedCopies(folder: string): Promise<void> {
  const files = await readdir(folder, { recursive: true });
  const compressible = files.filter((file) => /\.(html|js|css|svg|wasm)$/.test(file));
  await Promise.all(
    compressible.map(async (file) => {
      const bytes = await readFile(join(folder, file));
      if (bytes.length >= MIN_GZIPPED_BYTES) await writeFile(join(folder, `${file}.gz`), await promisify(gzip)(bytes));
    }),
  );
}

function oneLine(text: string): string {
  const escape = String.fromCharCode(27);
  return text
    .replaceAll(new RegExp(`${escape}\\[[0-9;]*m`, "g"), "")
    .replaceAll(/\s+/g, " ")
    .slice(0, 500);
}
