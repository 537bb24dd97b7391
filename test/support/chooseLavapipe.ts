/**
 * @file Dawn in this process runs on Mesa's lavapipe, where there is one: a software adapter with f16, which SwiftShader has not. To be
 * imported before dawn.ts. `.ci/run` puts it where only those find it who name it: nothing else takes this machine for one with a GPU.
 */
import { existsSync } from "node:fs";

const manifest = [
  "/usr/local/lib/manyhands-lavapipe/lvp_icd.json",
  "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json",
  "/usr/share/vulkan/icd.d/lvp_icd.json",
].find((path) => existsSync(path));

if (manifest !== undefined && process.env["VK_ICD_FILENAMES"] === undefined) {
  process.env["VK_ICD_FILENAMES"] = manifest;
  // LLVM compiles our kernels in a third of the time, to code that is a little slower.
  process.env["GALLIVM_PERF"] ??= "nopt";
  process.env["LP_NATIVE_VECTOR_WIDTH"] ??= "128";
}
