/** @file A WebGPU device that takes every call and does nothing: for what can be said of our side of the calls alone. */

/** Its calls allocate nothing from their second time on; what is read back is zeros. */
export function silentDevice(): GPUDevice {
  const done = Promise.resolve(null);
  const pass = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing };
  const commands = {};
  const encoder = { beginComputePass: () => pass, finish: () => commands, copyBufferToBuffer: nothing };
  const createBuffer = ({ size }: { size: number }) => {
    const mapped = new Map<number, ArrayBuffer>();
    const getMappedRange = (offset = 0, length = size - offset): ArrayBuffer => {
      const range = mapped.get(offset) ?? new ArrayBuffer(length);
      mapped.set(offset, range);
      return range;
    };
    return { destroy: nothing, unmap: nothing, mapAsync: () => done, getMappedRange };
  };
  const device = {
    pushErrorScope: nothing,
    popErrorScope: () => done,
    createBuffer,
    createShaderModule: () => ({}),
    createComputePipelineAsync: () => Promise.resolve({ getBindGroupLayout: () => ({}) }),
    createBindGroup: () => ({}),
    createCommandEncoder: () => encoder,
    queue: { submit: nothing, writeBuffer: nothing },
  };
  return device as unknown as GPUDevice;
}

function nothing(): void {}
