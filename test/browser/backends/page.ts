/** @file Runs in the browser: computes an engine case on a backend, started as the worker starts it (its self-check included). */
import * as tf from "@tensorflow/tfjs-core";
import { createEagerEngine } from "../../../shared/engine/eager.ts";
import { startBackend, type StartedBackend } from "../../../worker-browser/engine.ts";
import type { TfjsBackend } from "../../../worker-browser/messages.ts";
import { engineCases } from "../../support/engineCases.ts";

export type Computed = {
  device: string;
  lossSum: number;
  lossAlone: number;
  tokens: number;
  gradient: number[];
  /** Tensors left behind by a second step. */
  leaked: number;
  fault: string | null;
};

const started = new Map<TfjsBackend, StartedBackend>();

async function computeOn(backend: TfjsBackend, caseIndex: number): Promise<Computed> {
  const device = started.get(backend) ?? (await startBackend(backend));
  started.set(backend, device);
  const engineCase = engineCases[caseIndex];
  if (engineCase === undefined) throw new Error(`there is no engine case ${caseIndex}`);
  const { spec, layout, params, batch } = engineCase;
  const engine = await createEagerEngine({ spec, layout, backend });
  await engine.load(params);
  const gradient = new Float32Array(layout.length);
  await engine.gradient(batch, gradient);
  const before = tf.memory().numTensors;
  const { lossSum, tokens } = await engine.gradient(batch, gradient);
  const leaked = tf.memory().numTensors - before;
  const lossAlone = (await engine.loss(batch)).lossSum;
  await engine.dispose();
  return { device: device.device, lossSum, lossAlone, tokens, gradient: [...gradient], leaked, fault: device.fault() };
}

declare global {
  // oxlint-disable-next-line no-var -- how TypeScript declares globals
  var computeOn: (backend: TfjsBackend, caseIndex: number) => Promise<Computed>;
}
globalThis.computeOn = computeOn;
