import type { TfjsBackend } from "./messages.ts";

/** What may compute in a browser, best first. A file of its own: the page reads it without loading an engine. */
export const backends: readonly TfjsBackend[] = ["webgpu", "webgl", "wasm", "cpu"];
