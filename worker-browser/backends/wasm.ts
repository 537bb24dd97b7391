/** @file tfjs on WebAssembly, one thread. */
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import simd from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url";
import threaded from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm?url";
import plain from "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url";
import * as tf from "@tensorflow/tfjs-core";
import type { StartedBackend } from "../engine.ts";

/** @throws Error when the module does not load. */
export async function start(): Promise<StartedBackend> {
  setWasmPaths({
    "tfjs-backend-wasm.wasm": absolute(plain),
    "tfjs-backend-wasm-simd.wasm": absolute(simd),
    "tfjs-backend-wasm-threaded-simd.wasm": absolute(threaded),
  });
  // Threads need headers (COOP and COEP) that would cut the page off from others, and a thread of tfjs' own making.
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  if (!(await tf.setBackend("wasm"))) throw new Error("tfjs could not start WebAssembly");
  return { device: "one processor core", fault: () => null, lost: new Promise(() => {}) };
}

function absolute(path: string): string {
  return new URL(path, import.meta.url).href;
}
