/** @file ONNX Runtime on something else than the processor: here its own WebGPU, on whatever adapter there is. */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { createNodeEngine } from "../../../worker-node/engine.ts";
import { createOnnxEngine } from "../../../worker-node/onnxEngine.ts";
import { providers, providersHere } from "../../../worker-node/providers.ts";
import { gpuTest } from "../../support/dawn.ts";
import { engineCases, relativeL2 } from "../../support/engineCases.ts";

const { spec, layout, params, batch } = engineCases[0]!;

gpuTest("the same gradients as on the processor", async () => {
  const [found, expected] = await Promise.all(
    (["webgpu", "cpu"] as const).map(async (provider) => {
      const { engine, name } = await createNodeEngine({ spec, layout, threads: 1, preference: "onnx", provider });
      expect(name).toBe(provider === "cpu" ? "onnx" : "onnx on webgpu");
      await engine.load(params);
      const gradient = new Float32Array(layout.length);
      await engine.gradient(batch, gradient);
      await engine.dispose();
      return gradient;
    }),
  );
  expect(relativeL2(found!, expected!)).toBeLessThan(1e-5);
});

test("one that this machine does not have is refused, and not replaced by the processor in silence", async () => {
  const here = await providersHere();
  expect(here).toContain("cpu");
  const missing = providers.find((provider) => !here.includes(provider))!;
  await expect(createOnnxEngine({ spec, layout, threads: 1, provider: missing })).rejects.toThrow(
    `this machine's ONNX Runtime has no ${missing}, only ${here.join(", ")}`,
  );
});

test("for another engine than ONNX Runtime it is a mistake: one line and exit code 2", async () => {
  const worker = resolve(import.meta.dirname, "../../../worker-node/main.ts");
  const flags = ["--url", "http://127.0.0.1:9", "--engine", "wasm", "--provider", "cuda"];
  await expect(promisify(execFile)(process.execPath, [worker, ...flags])).rejects.toMatchObject({
    code: 2,
    stderr: "error: --provider cuda is for --engine onnx, not wasm\n",
  });
});
