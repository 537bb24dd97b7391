/** @file Gradients as `i8`, encoded on the device: the codec's bits, whatever the buffers; and a device that encodes wrongly. */
import { expect } from "vitest";
import { encode, encodedBytes } from "../../../shared/codec/codec.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import { createGradientEncoder } from "../../../shared/engine/wgsl/encoder.ts";
import type { WgslEngineOptions } from "../../../shared/engine/wgsl/engine.ts";
import { USAGE } from "../../../shared/engine/wgsl/replay.ts";
import { chooseEncoding } from "../../../shared/engine/wgsl/selfTest.ts";
import { createEngineOn } from "../../../worker-node/webgpuEngine.ts";
import { gpuTest, testDevice } from "../../support/dawn.ts";
import { engineCases } from "../../support/engineCases.ts";
import { randomParams, smallLayout } from "../../support/smallModel.ts";

const compiled = new Map<string, GPUComputePipeline>();

async function compare(options: Partial<WgslEngineOptions> = {}): Promise<void> {
  const { spec, layout, params, batch } = engineCases[0]!;
  const opened = await testDevice();
  const limits = { ...limitsOf(opened.device), ...options.limits };
  const engine = await createEngineOn(opened, {
    spec,
    layout,
    compiled,
    createEncoder: createGradientEncoder,
    ...options,
    limits,
  });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  const expected = await engine.gradient(batch, gradient);
  const [bytes, payload] = [0, 9].map((fill) => new Uint8Array(encodedBytes("i8", layout.length)).fill(fill));
  encode("i8", gradient, bytes!);
  expect(await engine.encodedGradient!(batch, payload!)).toEqual(expected);
  expect(payload).toEqual(bytes);
  await engine.dispose();
}

gpuTest("the encoded gradient is the gradient, encoded, to the bit", () => compare());

gpuTest("so it is when the arena is several buffers", () => compare({ limits: { maxBufferBytes: 8192 } }));

gpuTest("and when a buffer is encoded in pieces", async () => {
  const { device } = await testDevice();
  const { length } = smallLayout;
  expect(length).toBeGreaterThan(2 * 65_536);
  const values = randomParams(smallLayout, 5, 3);
  const gradient = device.createBuffer({ size: 4 * length + 256, usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget }); // prettier-ignore
  device.queue.writeBuffer(gradient, 0, values);
  device.queue.writeBuffer(gradient, 4 * length, Float32Array.of(42));
  const options = { segments: [{ start: 0, end: length }], gradients: [gradient], compiled };
  const encoder = await createGradientEncoder(device, { ...options, limits: { maxBindingBytes: 4 * 65_536 } });
  const commands = device.createCommandEncoder();
  encoder.record(commands);
  device.queue.submit([commands.finish()]);
  const [bytes, payload] = [0, 9].map((fill) => new Uint8Array(encodedBytes("i8", length)).fill(fill));
  encode("i8", values, bytes!);
  expect(await encoder.read(payload!)).toBe(42);
  expect(payload).toEqual(bytes);

  device.queue.writeBuffer(gradient, 4 * 70_000, Float32Array.of(NaN));
  const again = device.createCommandEncoder();
  encoder.record(again);
  device.queue.submit([again.finish()]);
  await expect(encoder.read(payload!)).rejects.toThrow(new RangeError("the gradient is not finite"));
  encoder.dispose();
  gradient.destroy();
});

gpuTest("a device that encodes right does; one whose rounding is wrong does not, and says so", async () => {
  const { device } = await testDevice();
  expect(await chooseEncoding(device, "f32")).toEqual({ createEncoder: null, refused: [] });
  expect(await chooseEncoding(device, "i8")).toEqual({ createEncoder: createGradientEncoder, refused: [] });
  const wrong = new Proxy(device, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name !== "createShaderModule") return value.bind(target) as unknown;
      return ({ code, ...rest }: GPUShaderModuleDescriptor) =>
        target.createShaderModule({ ...rest, code: code.replace("round(x * inverse)", "floor(x * inverse + 0.5)") });
    },
  });
  expect(await chooseEncoding(wrong, "i8")).toEqual({
    createEncoder: null,
    refused: [expect.stringMatching(/^its encoding of gradients: byte \d+ is \d+, not \d+$/)],
  });
});
