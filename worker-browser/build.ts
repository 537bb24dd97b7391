/**
 * @file Builds the pages into dist/pages or a given folder: `node worker-browser/build.ts [FOLDER]`. A program of its own, because the coordinator, which
 * starts it, imports nothing from here. Silent when it works; one line on stderr and exit code 1 when it does not.
 */
import { build } from "vite";

try {
  const folder = process.argv[2];
  await build({
    configFile: `${import.meta.dirname}/../vite.config.ts`,
    logLevel: "silent",
    ...(folder === undefined ? {} : { build: { outDir: folder } }),
  });
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  console.error(`the pages could not be built: ${oneLine(message)}`);
  process.exitCode = 1;
}

function oneLine(text: string): string {
  const escape = String.fromCharCode(27);
  return text
    .replaceAll(new RegExp(`${escape}\\[[0-9;]*m`, "g"), "")
    .replaceAll(/\s+/g, " ")
    .slice(0, 500);
}
