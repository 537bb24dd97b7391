/** @file tfjs on WebGPU, on a device of our own: tfjs' own one reports neither its errors nor its end, and shares with nobody. */
import { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import * as tf from "@tensorflow/tfjs-core";
import type { WgslEngine } from "../../shared/engine/wgsl/engine.ts";
import type { Tensors } from "../../shared/model/gpt.ts";
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import type { StartedBackend } from "../engine.ts";
import { describeAdapter } from "./adapter.ts";
import { sharedDevice } from "./device.ts";

/** @throws NoAdapter when the browser has no adapter to give, or Error when it has no device. */
export async function start(onCompiled: (programs: number) => void): Promise<StartedBackend> {
  const { device, info, fault, lost } = await sharedDevice();
  // tfjs compiles each program when it first needs it; counting them is all that there is to show of it.
  let programs = 0;
  device.createComputePipeline = (descriptor) => {
    onCompiled(++programs);
    return GPUDevice.prototype.createComputePipeline.call(device, descriptor);
  };
  tf.removeBackend("webgpu");
  tf.registerBackend("webgpu", () => new WebGPUBackend(device, info), 3);
  return { device: describeAdapter(info), fault, lost };
}

/**
 * The parameters as tensors over the engine's own bytes, without a copy: they show what it load()s, and are for reading on the device
 * only (data() throws). To be disposed before the engine is; that frees no memory. tfjs must be on the engine's device.
 */
export function residentParams(layout: ParamLayout, { bindingOf }: Pick<WgslEngine, "bindingOf">): Tensors {
  void tf.setBackend("webgpu");
  const { tensorMap } = tf.backend() as WebGPUBackend;
  return Object.fromEntries(
    layout.slots.map((slot) => {
      const binding = bindingOf(slot);
      // `zeroCopy` also says that the buffer is not tfjs' to release.
      const tensor = tf.tensor({ buffer: binding.buffer, zeroCopy: true }, [...slot.shape], "float32");
      // tfjs binds whole buffers, or whatever else a tensor has, as it is: that was made for GPUExternalTexture, and its type says so.
      tensorMap.get(tensor.dataId).resource = binding as unknown as GPUExternalTexture;
      return [slot.name, tensor];
    }),
  );
}
