import * as fc from "fast-check";
import { expect, test } from "vitest";
import { floatsOf, readSafetensors, writeSafetensors } from "../../../shared/codec/safetensors.ts";

const tensors = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1 }).filter((name) => name !== "__metadata__"),
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
  }),
  { selector: ({ name }) => name, maxLength: 6 },
);

test("any tensors written and read again are the same", () => {
  fc.assert(
    fc.property(tensors, fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true }), (specs, metadata) => {
      const written = specs.map(({ name, shape }, t) => ({
        name,
        shape,
        values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => t * 100 + i),
      }));
      const { tensors: read, metadata: readMetadata } = readSafetensors(writeSafetensors(written, metadata));
      expect(readMetadata).toEqual(metadata);
      expect(read.size).toBe(written.length);
      for (const { name, shape, values } of written) {
        const entry = read.get(name);
        expect(entry?.shape).toEqual(shape);
        expect(entry && floatsOf(name, entry)).toEqual(values);
      }
    }),
  );
});

test("[I6] a damaged file is refused with an Error or read with every tensor inside the file, never worse", () => {
  const good = writeSafetensors([
    { name: "a", shape: [4, 2], values: new Float32Array(8) },
    { name: "b", shape: [3], values: new Float32Array(3) },
  ]);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }),
      fc.nat(good.length),
      (edits, cut) => {
        // prettier-ignore
        const file = good.slice(0, edits.length === 0 ? cut : good.length);
        for (const [position, byte] of edits) file[position] = byte;
        try {
          for (const { bytes } of readSafetensors(file).tensors.values()) {
            expect(bytes.byteOffset + bytes.length).toBeLessThanOrEqual(file.length);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          expect(error).not.toBeInstanceOf(TypeError);
        }
      },
    ),
    { numRuns: 3000 },
  );
});
