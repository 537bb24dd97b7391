/** @file tfjs on WebGL 2. */
import type { MathBackendWebGL } from "@tensorflow/tfjs-backend-webgl";
import "@tensorflow/tfjs-backend-webgl";
import * as tf from "@tensorflow/tfjs-core";
import type { StartedBackend } from "../engine.ts";

const LOST = "the WebGL context was lost";

/** @throws Error when the browser has no WebGL 2 here, or none that computes in 32-bit floats. */
export async function start(): Promise<StartedBackend> {
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("webgl2");
  if (context === null) throw new Error("the browser has no WebGL 2 to give");
  const info = context.getExtension("WEBGL_debug_renderer_info");
  const device = String(context.getParameter(info?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();

  if (!(await tf.setBackend("webgl"))) throw new Error("tfjs could not start WebGL");
  // With 16-bit textures gradients below 6e-8 vanish.
  if (!tf.env().getBool("WEBGL_RENDER_FLOAT32_ENABLED")) throw new Error("WebGL has only 16-bit floats here");
  const { gl } = (tf.backend() as MathBackendWebGL).gpgpu;
  // Reads from a lost context return zeros, and say nothing.
  const fault = (): string | null => (gl.isContextLost() ? LOST : null);
  const lost = new Promise<string>((resolve) => {
    gl.canvas.addEventListener("webglcontextlost", () => resolve(LOST));
  });
  return { device, fault, lost };
}
