/** @file Fifth pass: an op becomes the kernels that compute it. */
import type { FusedOp } from "./fused.ts";
import { attentionGradKernels, attentionKernel } from "./kernels/attention.ts";
import { columnSumKernel } from "./kernels/columnSum.ts";
import { crossEntropyKernels } from "./kernels/crossEntropy.ts";
import { elementwiseKernel } from "./kernels/elementwise.ts";
import { embeddingGradKernels } from "./kernels/embeddingGrad.ts";
import type { Kernel } from "./kernels/kernel.ts";
import { layerNormGradKernels, layerNormKernel } from "./kernels/layerNorm.ts";
import { matMulKernel } from "./kernels/matMul.ts";
import { matMulAloneKernel } from "./kernels/matMulAlone.ts";
import { type Lanes, LanesConflict, type ShaderContext } from "./shader.ts";

/** Four elements a thread where the shapes allow it. @throws Error when a kernel binds more than the device allows. */
export function lowerOp(op: FusedOp, context: ShaderContext): Kernel[] {
  const kernels = withLanes((most) => kernelsOf(op, context, most));
  for (const { name, bindings } of kernels) {
    if (bindings.length > context.limits.maxBindings) {
      throw new Error(
        `kernel ${name} has ${bindings.length} bindings, the device allows ${context.limits.maxBindings}`,
      );
    }
  }
  const fused = [...(op.core.kind === "columnSum" ? op.core.prologue : []), ...op.steps].map(({ op }) => op);
  return kernels.map((kernel, i) => (i === 0 && fused.length > 0 ? { ...kernel, fused } : kernel));
}

function withLanes<T>(write: (most: Lanes) => T): T {
  try {
    return write(4);
  } catch (error) {
    if (!(error instanceof LanesConflict)) throw error;
    return write(1);
  }
}

function kernelsOf(op: FusedOp, context: ShaderContext, most: Lanes): Kernel[] {
  switch (op.core.kind) {
    case "elementwise":
      return [elementwiseKernel(context, op, most)];
    case "matMul":
      return [(context.alone ? matMulAloneKernel : matMulKernel)(context, op, most)];
    case "layerNorm":
      return [layerNormKernel(context, op, most)];
    case "layerNormGrad":
      return layerNormGradKernels(context, op, most);
    case "attention":
      return [attentionKernel(context, op, most)];
    case "attentionGrad":
      return attentionGradKernels(context, op, most);
    case "crossEntropy":
      return crossEntropyKernels(context, op, most);
    case "columnSum":
      return [columnSumKernel(context, op, most)];
    case "embeddingGrad":
      return embeddingGradKernels(context, op, most);
    default:
      return op.core satisfies never;
  }
}
