/** @file tfjs on WebGL 2. */
import "@tensorflow/tfjs-backend-webgl";
import * as tf from "@tensorflow/tfjs-core";
import type { StartedBackend } from "../engine.ts";

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
  return { device, fault: () => null, lost: new Promise(() => {}) };
}
