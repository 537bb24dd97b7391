/**
 * @file Execution providers of ONNX Runtime: what besides the processor may compute its graphs. Which of them a machine has depends on
 * the operating system and on what its owner installed; one that is asked for and not there, ONNX Runtime replaces with a warning.
 */
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

export const providers = ["cpu", "cuda", "tensorrt", "coreml", "dml", "webgpu"] as const;
export type Provider = (typeof providers)[number];

/** As ONNX Runtime lists them; those that are not bundled need a library of their own beside it. */
type Listed = { readonly name: string; readonly bundled: boolean };

export async function providersHere(): Promise<readonly Provider[]> {
  // ONNX Runtime reports to its makers unless this is set before it is loaded, in the environment of the process.
  process.env["ORT_DISABLE_TELEMETRY"] = "1";
  const { listSupportedBackends } = await import("onnxruntime-node");
  return usable(listSupportedBackends(), librariesBeside(createRequire(import.meta.url).resolve("onnxruntime-node")));
}

/** `libraries`: names of the files in ONNX Runtime's folders. */
export function usable(listed: readonly Listed[], libraries: readonly string[]): Provider[] {
  const isThere = (name: string): boolean => libraries.some((file) => file.includes(`onnxruntime_providers_${name}.`));
  return providers.filter((provider) => listed.some(({ name, bundled }) => name === provider && (bundled || isThere(name)))); // prettier-ignore
}

/**
 * What is timed when nobody said what to take, the processor last. CUDA's library is there because somebody installed it; what every
 * copy of ONNX Runtime has is of use with a GPU only. TensorRT builds its engines for minutes, so it is for who asks for it.
 */
export function worthTrying(here: readonly Provider[], hasGpu: boolean): Provider[] {
  const accelerated = here.filter((provider) => provider === "cuda" || (hasGpu && !["cpu", "tensorrt"].includes(provider))); // prettier-ignore
  return [...accelerated, "cpu"];
}

/** Of the package's binaries for this platform. */
function librariesBeside(entry: string): string[] {
  const folder = path.join(path.dirname(entry), "../bin");
  try {
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
    return files.filter((file) => file.includes(path.join(process.platform, process.arch)));
  } catch {
    return [];
  }
}
