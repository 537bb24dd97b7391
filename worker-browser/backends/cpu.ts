/** @file tfjs in plain JavaScript: always there, always slow. */
import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import type { StartedBackend } from "../engine.ts";

export async function start(): Promise<StartedBackend> {
  if (!(await tf.setBackend("cpu"))) throw new Error("tfjs could not start its cpu backend");
  return { device: "one processor core, plain JavaScript", fault: () => null, lost: new Promise(() => {}) };
}
