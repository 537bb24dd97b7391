/** @file Programs of this project that the coordinator starts and waits for: it imports nothing from the folders they are in. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");

/** `.ts` as it was written, `.js` in an image: programs come in the same form as this file. */
const extension = extname(import.meta.filename);

/** Where the built pages are. */
export const pagesDir: string = join(root, "dist/pages");

/** Other coordinators that start in the same moment. */
const MAX_SWAPS = 10;

/** Builds the pages when they are missing or older than what they are made from. Resolves to a problem in one line, or null. */
export async function buildPages(): Promise<string | null> {
  const built = statSync(join(pagesDir, "index.html"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ["worker-browser", "shared", "vite.config.ts", "package.json"].map((name) => join(root, name));
  // An image has the pages and not their sources.
  if (built > 0 && !existsSync(join(root, "worker-browser"))) return null;
  if (built > 0 && sources.every((path) => newest(path) <= built)) return null;
  // Two coordinators of one checkout may start at once: each builds in a folder of its own, and what is served is one's or
  // the other's, never a mixture.
  const fresh = `${pagesDir}-${process.pid}`;
  try {
    const { code, stderr } = await runProgramFile("worker-browser/build", [fresh]);
    if (code !== 0) return stderr.trim();
    for (let attempt = 0; attempt < MAX_SWAPS; attempt++) if (swapped(fresh, pagesDir)) return null;
    return `the pages in ${pagesDir} are replaced by others again and again`;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** Whether `fresh` is now in the place of `target`; not, when another program put its own there in the same moment. */
function swapped(fresh: string, target: string): boolean {
  const old = `${fresh}-old`;
  try {
    if (existsSync(target)) renameSync(target, old);
    renameSync(fresh, target);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(old, { recursive: true, force: true });
  }
}

/** The text that the finished model writes; null where there is no program for it, or with the reason on `onProblem`. */
export async function sampleText(
  { name, runsDir, prompt, tokens }: { name: string; runsDir: string; prompt: string; tokens: number },
  onProblem: (text: string) => void,
): Promise<string | null> {
  // An image has only the programs that it is for.
  if (!existsSync(join(root, `worker-node/generate${extension}`))) return null;
  const flags = ["--run", name, "--runs-dir", runsDir, "--prompt", prompt, "--tokens", String(tokens), "--seed", "1"];
  const { code, stdout, stderr } = await runProgramFile("worker-node/generate", flags);
  if (code === 0) return stdout.trimEnd();
  onProblem(`no sample: ${stderr.trim()}`);
  return null;
}

/** Runs a program of this project to its end. `signal` kills it. */
export function runProgramFile(
  file: string,
  flags: readonly string[],
  signal?: AbortSignal,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [join(root, `${file}${extension}`), ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal === undefined ? {} : { signal }),
  });
  const text = { stdout: "", stderr: "" };
  child.stdout.on("data", (data: Buffer) => (text.stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (text.stderr += data.toString()));
  return new Promise((done) => {
    child.on("error", (error) => done({ code: 1, ...text, stderr: error.message }));
    child.on("close", (code) => done({ code, ...text }));
  });
}

function newest(path: string): number {
  if (!existsSync(path)) return 0;
  const found = statSync(path);
  if (!found.isDirectory()) return found.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}
