/** @file A chain of elementwise steps that found no kernel to ride on. */
import { sizeOf } from "../../../numerics/layout.ts";
import type { FusedOp } from "../fused.ts";
import { fourLanes, type Lanes, Shader, type ShaderContext, writeSteps } from "../shader.ts";
import { finishKernel, inARow, type Kernel } from "./kernel.ts";

const THREADS = 256;

export function elementwiseKernel(context: ShaderContext, { core, steps, stores }: FusedOp, most: Lanes): Kernel {
  if (core.kind !== "elementwise") throw new Error(`an elementwise kernel for ${core.kind}`);
  const size = sizeOf(core.shape);
  const lanes = most === 4 && fourLanes(context, steps, new Set(steps.map(({ output }) => output)), size) ? 4 : 1;
  const shader = new Shader(context);
  const count = size / lanes;
  const { workgroups, at } = inARow(Math.ceil(count / THREADS));
  const lines = writeSteps(shader, steps, stores, { lanes, size, index: "i" }, new Map());
  const body = `@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = ${at} * ${THREADS}u + lane;
  ${workgroups[0] * workgroups[1] * THREADS === count ? "" : `if (i >= ${count}u) { return; }`}
  ${lines.join("\n  ")}
}`;
  return finishKernel(shader, {
    name: `elementwise ${core.shape.join("×")}`,
    workgroups,
    flops: size * steps.length,
    body,
  });
}
