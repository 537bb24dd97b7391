/** @file θ as a safetensors file of named tensors, and back: what snapshots, the workers' downloads and exports consist of. */

import type { ParamLayout } from "../numerics/layout.ts";
import { floatsOf, readSafetensors, writeSafetensors, type NamedFloats } from "./safetensors.ts";

/** The layout's tensors as views of params [P]; padding is left out. @throws RangeError when the lengths differ. */
export function namedTensors(layout: ParamLayout, params: Float32Array): NamedFloats[] {
  requireLength(layout, params);
  return layout.slots.map(({ name, shape, offset, size }) => ({
    name,
    shape,
    values: params.subarray(offset, offset + size),
  }));
}

/** params [P] as a safetensors file in memory. @throws RangeError when the lengths differ. */
export function writeParams(
  layout: ParamLayout,
  params: Float32Array,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  return writeSafetensors(namedTensors(layout, params), metadata);
}

/**
 * Overwrites params [P] with the tensors of a file, padding with zeros, and returns the file's metadata. Nothing is
 * written unless everything fits.
 *
 * @throws Error when the file is malformed or its tensors are not exactly the layout's (name, F32, shape);
 * RangeError when params is not of the layout's length.
 */
export function readParams(
  file: Uint8Array,
  layout: ParamLayout,
  params: Float32Array,
): Readonly<Record<string, string>> {
  requireLength(layout, params);
  const { metadata, tensors } = readSafetensors(file);
  const found = layout.slots.map(({ name, shape, offset }) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`the file has no tensor "${name}"; this model has [${shape.join(", ")}]`);
    if (tensor.shape.join() !== shape.join()) {
      throw new Error(
        `tensor "${name}" is [${tensor.shape.join(", ")}] in the file, [${shape.join(", ")}] in this model`,
      );
    }
    return { offset, values: floatsOf(name, tensor) };
  });
  if (tensors.size !== layout.slots.length) {
    const known = new Set(layout.slots.map(({ name }) => name));
    const extra = [...tensors.keys()].find((name) => !known.has(name));
    throw new Error(`the file has a tensor "${extra}" that this model has not`);
  }
  params.fill(0);
  for (const { offset, values } of found) params.set(values, offset);
  return metadata;
}

function requireLength(layout: ParamLayout, params: Float32Array): void {
  if (params.length !== layout.length) {
    throw new RangeError(`params of ${params.length} elements, the layout has ${layout.length}`);
  }
}
