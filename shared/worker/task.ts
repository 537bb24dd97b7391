/** @file From a unit of a lease to the engine's batch: which samples, where their tokens lie, which dropout masks. */
import { loadBatch } from "../data/batch.ts";
import { utf8Decoder } from "../tokenizer/utf8.ts";
import { parseManifest } from "../data/manifest.ts";
import { tokenSource } from "../data/tokenSource.ts";
import { evaluationOffset, sampleOrder } from "../data/windows.ts";
import type { Batch } from "../engine/engine.ts";
import type { RunDescription, Version } from "../wire/protocol.ts";

export type Task = {
  /** Unit `unit` of the `samples` samples from position `origin`, padded to the run's unit size. */
  trainingBatch(unit: { origin: number; samples: number; unit: number; version: Version }): Promise<Batch>;
  /** Unit `unit` of `samples` windows spread over the validation split. */
  evaluationBatch(unit: { samples: number; unit: number }): Promise<Batch>;
};

type ReadFile = (path: string, range?: { start: number; end: number }) => Promise<Uint8Array>;

export async function createTask(run: RunDescription, readFile: ReadFile): Promise<Task> {
  const manifest = parseManifest(JSON.parse(utf8Decoder().decode(await readFile(run.manifestPath))));
  const folder = run.manifestPath.slice(0, run.manifestPath.lastIndexOf("/") + 1);
  const { pieceBytes, splits } = manifest;
  const readRange = (file: string, start: number, end: number): Promise<Uint8Array> =>
    readFile(folder + file, { start, end });
  const [train, validation] = [splits.train, splits.val].map((split) => tokenSource({ split, pieceBytes, readRange }));
  if (train === undefined || validation === undefined) throw new Error("a manifest has two splits");
  const { context, dropout } = run.model;
  const order = sampleOrder({ tokens: train.tokens, context, seed: run.seed, sampling: run.sampling });
  return {
    async trainingBatch({ origin, samples, unit, version }) {
      const first = unit * run.unit;
      const count = Math.min(run.unit, samples - first);
      const positions = Array.from({ length: count }, (_, row) => origin + first + row);
      const offsets = positions.map((position) => order.offsetOf(position));
      const batch = await loadBatch({ source: train, offsets, context, rows: run.unit });
      if (dropout === 0) return batch;
      // Padding rows need keys too; what they drop changes nothing.
      const rows = Array.from({ length: run.unit }, (_, row) => positions[row] ?? 0);
      return { ...batch, dropout: { seed: run.seed, step: version, samples: rows } };
    },
    async evaluationBatch({ samples, unit }) {
      const first = unit * run.evaluationUnit;
      const count = Math.min(run.evaluationUnit, samples - first);
      const offsets = Array.from({ length: count }, (_, row) =>
        evaluationOffset({ tokens: validation.tokens, context, samples }, first + row),
      );
      return loadBatch({ source: validation, offsets, context, rows: run.evaluationUnit });
    },
  };
}
