/**
 * @file The engine interface: θ and token windows in, loss and gradient sums out. Two implementations, one model:
 * eager.ts runs the model's tfjs ops on any tfjs backend, onnx.ts runs the traced graph on ONNX Runtime.
 */

/** What computes: ONNX Runtime on a CPU, or a tfjs backend by its tfjs name. */
export type Backend = "onnx" | "webgpu" | "webgl" | "wasm" | "cpu";

export type Batch = {
  /** B: windows in this batch. */
  readonly batchSize: number;
  /** Token ids, row-major [B, T]. */
  readonly inputs: Int32Array;
  /** Token ids to predict, row-major [B, T]; −1 marks a position that does not count. */
  readonly targets: Int32Array;
  /** Names each row's dropout masks: (run seed, version of θ, sample positions [B]). Read only when the spec has dropout. */
  readonly dropout?: { readonly seed: number; readonly step: number; readonly samples: readonly number[] };
};

/** Sums, never means: only the coordinator divides. */
export type Loss = {
  /** Σ over counted targets of −ln p(target), in nats. */
  readonly lossSum: number;
  /** Number of counted targets. */
  readonly tokens: number;
};

export type Engine = {
  readonly backend: Backend;
  /** Takes θ [P] in ParamLayout order. Call again after every change of the array: an engine may hold a copy on a device. */
  load(params: Float32Array): Promise<void>;
  /** Overwrites gradient [P] with Σ_tokens ∂ℓ/∂θ; padding becomes 0. */
  gradient(batch: Batch, gradient: Float32Array): Promise<Loss>;
  /**
   * As gradient(), but overwrites payload, `i8` of P elements, with what encoding the gradient would give, to the bit. Absent where
   * that spares nothing. @throws RangeError when a value is not finite.
   */
  encodedGradient?(batch: Batch, payload: Uint8Array): Promise<Loss>;
  /** The loss alone, without dropout. */
  loss(batch: Batch): Promise<Loss>;
  /** Next-token logits, row-major [B, T, V], for inputs [B, T]; without dropout. */
  logits(inputs: Int32Array, batchSize: number): Promise<Float32Array>;
  /** Those of one position of one window, [V], for inputs [T]; absent where it spares nothing. */
  logitsAt?(inputs: Int32Array, position: number): Promise<Float32Array>;
  /** How long the last gradient took, ms, without what was made for it first; absent where an engine cannot tell the two apart. */
  readonly lastStepMs?: () => number;
  dispose(): Promise<void>;
};
