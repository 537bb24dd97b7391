import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../../../..");

/** Every file and package that the file loads at run time, directly or not. */
function loaded(file: string, seen: Set<string> = new Set()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(join(root, file), "utf8").replaceAll(/(import|export) type [^;]*;/g, "");
  for (const [, name = ""] of text.matchAll(/(?:from|import) "([^"]+)";/g)) {
    if (name.startsWith(".")) loaded(join(dirname(file), name), seen);
    else seen.add(name);
  }
  return seen;
}

test("what replays a plan loads neither tfjs nor the compiler: a plan made elsewhere is enough to train", () => {
  const files = [...loaded("shared/engine/wgsl/engine.ts"), ...loaded("shared/engine/wgsl/device.ts")];
  expect(
    files.filter((name) => /tensorflow|kernels|fuse|model\/(gpt|ops)/.test(name) && !name.endsWith("gptTensors.ts")),
  ).toEqual([]);
  expect(files).toContain("shared/engine/wgsl/replay.ts");
  // The same walk does find tfjs where it is.
  expect([...loaded("shared/engine/stepGraph.ts")]).toContain("@tensorflow/tfjs-core");
});

test("who has a traced graph compiles it without tfjs and the model's code", () => {
  const files = [...loaded("shared/engine/wgsl/plan.ts"), ...loaded("shared/engine/graphFile.ts")];
  expect(files.filter((name) => /tensorflow|model\/(gpt\.|ops\/(?!constants))/.test(name))).toEqual([]);
  expect(files).toContain("shared/engine/wgsl/kernels/matMul.ts");
});
