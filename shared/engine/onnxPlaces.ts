/** @file Where the values that go from one part of a step to another lie, in one memory. */
import { OWN_BYTES } from "./onnxKernels.ts";
import type { KernelPart, Part } from "./onnxParts.ts";
import type { OnnxGraph, OnnxValue } from "./onnxProto.ts";

const ALIGNMENT = 4096;
/** Arrays whose addresses agree in the lower bits would push each other out of the cache. */
const STAGGER = 1088;

export type Places = {
  /** The address of each value that goes from one part to another. */
  readonly values: ReadonlyMap<string, number>;
  /** Of room that a kernel needs beside its values: for what lies elsewhere, and, the last one, for sums. */
  readonly rooms: ReadonlyMap<KernelPart, ReadonlyMap<string, number>>;
  readonly bytes: number;
};

/** Name of the room for sums. */
export const SUMS = "sums";

/** What nobody reads any more gives its place to the next value of its size. */
export function placesOf(
  parts: readonly Part[],
  values: ReadonlyMap<string, OnnxValue>,
  { outputs }: OnnxGraph,
): Places {
  const wanted = new Set(outputs.map(({ name }) => name));
  const lastRead = new Map(parts.flatMap((part, i) => part.reads.map(({ name }): [string, number] => [name, i])));
  const free = new Map<number, number[]>();
  let bytes = OWN_BYTES;
  let count = 0;
  const take = (size: number): number => {
    const left = free.get(size)?.pop();
    if (left !== undefined) return left;
    const address = bytes + STAGGER * (count++ % 16);
    bytes = Math.ceil((address + 4 * size) / ALIGNMENT) * ALIGNMENT;
    return address;
  };
  const give = (size: number, address: number): void => {
    free.set(size, [...(free.get(size) ?? []), address]);
  };
  const size = (name: string): number => sizeOf(values.get(name)!.shape);
  const places = new Map<string, number>();
  const rooms = new Map<KernelPart, Map<string, number>>();
  for (const [i, part] of parts.entries()) {
    for (const { name } of part.writes) {
      if (!wanted.has(name) && lastRead.has(name)) places.set(name, take(size(name)));
    }
    if (part.kind === "kernel") {
      const elsewhere = [...part.reads, ...part.writes].map(({ name }) => name).filter((name) => !places.has(name));
      const sums = Math.min(...part.writes.map(({ name }) => size(name)));
      rooms.set(
        part,
        new Map([...elsewhere.map((name): [string, number] => [name, take(size(name))]), [SUMS, take(sums)]]),
      );
      for (const [name, address] of rooms.get(part)!) give(name === SUMS ? sums : size(name), address);
    }
    for (const name of new Set(part.reads.map(({ name }) => name))) {
      const address = places.get(name);
      if (address !== undefined && lastRead.get(name) === i) give(size(name), address);
    }
  }
  return { values: places, rooms, bytes };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}
