import { expect, test } from "vitest";
import { usable, worthTrying } from "../../../worker-node/providers.ts";

const listed = [
  { name: "cpu", bundled: true },
  { name: "webgpu", bundled: true },
  { name: "cuda", bundled: false },
  { name: "tensorrt", bundled: false },
  { name: "something new", bundled: true },
];

test("a provider that needs a library of its own is there when the library is", () => {
  expect(usable(listed, ["napi-v6/linux/x64/libonnxruntime.so.1"])).toEqual(["cpu", "webgpu"]);
  expect(usable(listed, ["napi-v6/linux/x64/libonnxruntime_providers_cuda.so"])).toEqual(["cpu", "cuda", "webgpu"]);
});

test("nobody having said what to take, CUDA is tried where it was installed, the others where there is a GPU", () => {
  expect(worthTrying(["cpu", "webgpu"], false)).toEqual(["cpu"]);
  expect(worthTrying(["cpu", "webgpu"], true)).toEqual(["webgpu", "cpu"]);
  expect(worthTrying(["cpu", "cuda", "tensorrt", "webgpu"], false)).toEqual(["cuda", "cpu"]);
});
